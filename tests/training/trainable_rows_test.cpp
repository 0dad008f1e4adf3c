#include "moe/training/trainable_rows.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

const std::vector<ParameterRows> kParameters = {
    {"embedding.weight", 9},
    {"layers.0.attention_norm.weight", 4},
    {"layers.0.attention.qkv_proj.weight", 12},
    {"layers.0.attention.q_norm.weight", 2},
    {"layers.0.moe.router.weight", 6},
    {"layers.0.moe.gate_up_proj", 6},
    {"layers.0.moe.down_proj", 6},
    {"layers.0.moe.shared_expert.down_proj", 4},
    {"layers.0.moe.shared_expert_gate.weight", 1},
    {"layers.1.feed_forward.down_proj", 4},
    {"lm_head.weight", 9}};

std::vector<std::string> names_of(const TrainableRows& rows) {
  std::vector<std::string> names;
  for (const auto& [name, ranges] : rows) {
    names.push_back(name);
    CHECK(ranges.empty());
  }
  return names;
}

using Names = std::vector<std::string>;

} // namespace

TEST_CASE("trainable_rows: a frozen part is frozen as a whole", "[training]") {
  const auto [part, names] = GENERATE(table<std::string, Names>({
      {"embedding", {"embedding.weight"}},
      {"head", {"lm_head.weight"}},
      {"attention", {"layers.0.attention.q_norm.weight", "layers.0.attention.qkv_proj.weight"}},
      {"norms", {"layers.0.attention.q_norm.weight", "layers.0.attention_norm.weight"}},
      {"router", {"layers.0.moe.router.weight"}},
      {"experts", {"layers.0.moe.down_proj", "layers.0.moe.gate_up_proj"}},
      {"shared_expert",
       {"layers.0.moe.shared_expert.down_proj", "layers.0.moe.shared_expert_gate.weight"}},
      {"feed_forward", {"layers.1.feed_forward.down_proj"}},
  }));
  CAPTURE(part);
  CHECK(names_of(trainable_rows(kParameters, {part}, {})) == names);
  CHECK(trainable_rows(kParameters, {}, {part}).size() == kParameters.size() - names.size());
}

TEST_CASE("trainable_rows: some experts", "[training]") {
  const auto rows = trainable_rows(kParameters, {}, {"experts=3,5,2", "router=3"});
  CHECK(rows.size() == kParameters.size());
  const std::vector<RowRange> experts = {{2, 4}, {5, 6}};
  CHECK(rows.at("layers.0.moe.gate_up_proj") == experts);
  CHECK(rows.at("layers.0.moe.down_proj") == experts);
  CHECK(rows.at("layers.0.moe.router.weight") == std::vector<RowRange>{{3, 4}});
  CHECK(rows.at("embedding.weight").empty());
  const auto others = trainable_rows(kParameters, {"experts=0"}, {});
  CHECK(others.size() == 2);
  CHECK(others.at("layers.0.moe.down_proj") == std::vector<RowRange>{{1, 6}});
  CHECK(
      trainable_rows(kParameters, {"experts=3"}, {"experts=3,4"})
          .at("layers.0.moe.down_proj") == std::vector<RowRange>{{4, 5}});
  CHECK(trainable_rows(kParameters, {}, {}).empty());
}

TEST_CASE("trainable_rows: rows are experts' in what the router has for each", "[training]") {
  const std::vector<ParameterRows> parameters = {
      {"layers.0.moe.router.weight", 6},
      {"layers.0.moe.router.projection", 8},
      {"layers.0.moe.router.log_scale", 1}};
  const auto some = trainable_rows(parameters, {}, {"router=5"});
  CHECK(some.at("layers.0.moe.router.weight") == std::vector<RowRange>{{5, 6}});
  CHECK(some.at("layers.0.moe.router.projection").empty());
  CHECK(some.at("layers.0.moe.router.log_scale").empty());
  CHECK(trainable_rows(parameters, {}, {"router"}).empty());
}

TEST_CASE("trainable_rows: new experts with their rows of the router", "[training]") {
  const NewExperts added = {{0, {4, 5}}};
  auto parameters = kParameters;
  parameters.push_back({"layers.12.moe.router.weight", 6});
  const auto rows = trainable_rows(parameters, {}, {"new-experts"}, added);
  CHECK(rows.size() == parameters.size());
  const std::vector<RowRange> last = {{4, 6}};
  CHECK(rows.at("layers.0.moe.router.weight") == last);
  CHECK(rows.at("layers.0.moe.gate_up_proj") == last);
  CHECK(rows.at("layers.0.moe.down_proj") == last);
  CHECK(rows.at("layers.12.moe.router.weight").empty());
  CHECK(rows.at("layers.0.moe.shared_expert.down_proj").empty());
  CHECK(rows.at("embedding.weight").empty());
  CHECK(trainable_rows(parameters, {"router"}, {"new-experts"}, added)
            .at("layers.0.moe.router.weight")
            .empty());
  CHECK_THROWS_WITH(
      trainable_rows(parameters, {}, {"new-experts"}),
      ContainsSubstring("only: new-experts is not possible; the model has no record"));
  CHECK_THROWS_WITH(
      trainable_rows(parameters, {}, {"new-experts"}, {{0, {6}}}),
      ContainsSubstring("there are 6 experts"));
}

TEST_CASE("trainable_rows: mistakes are named", "[training]") {
  const auto check_message = [](const std::string& text, const std::string& message) {
    CAPTURE(text);
    CHECK_THROWS_WITH(
        trainable_rows(kParameters, {text}, {}), ContainsSubstring("freeze: " + message));
  };
  check_message("routers", "routers is not one of embedding, head");
  check_message("", " is not one of");
  check_message("experts=6", "experts=6 is not possible; there are 6 experts");
  check_message("experts=", "experts= is not experts=3,5");
  check_message("experts=1;2", "experts=1;2 is not experts=3,5");
  check_message("experts=-1", "experts=-1 is not experts=3,5");
  check_message("attention=1", "attention=1 is not possible; only experts and router");
  CHECK_THROWS_WITH(
      trainable_rows({{"embedding.weight", 3}}, {}, {"experts"}),
      ContainsSubstring("only: the model has no experts"));
  CHECK_THROWS_WITH(
      trainable_rows(kParameters, {"router"}, {"router"}),
      ContainsSubstring("nothing remains"));
}
