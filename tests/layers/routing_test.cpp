#include "moe/layers/routing.h"

#include "moe/libtorch.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// Three tokens, two of four experts each; one row is dropped.
Routing routing_with_a_drop() {
  Routing routing;
  routing.logits = torch::rand({3, 4});
  routing.scores = routing.logits;
  routing.experts = torch::tensor({{0, 1}, {0, 3}, {1, 0}});
  routing.weights = torch::rand({3, 2});
  routing.kept = torch::tensor({{true, true}, {true, true}, {true, false}});
  return routing;
}

} // namespace

TEST_CASE("routing: rows are counted as computed, as chosen and as dropped", "[layers]") {
  auto routing = routing_with_a_drop();
  const auto mask = torch::tensor({false, true, true});
  CHECK(torch::equal(expert_counts(routing), torch::tensor({2, 2, 0, 1})));
  CHECK(torch::equal(chosen_counts(routing), torch::tensor({3, 2, 0, 1})));
  CHECK(torch::equal(expert_counts(routing, mask), torch::tensor({1, 1, 0, 1})));
  CHECK(torch::equal(chosen_counts(routing, mask), torch::tensor({2, 1, 0, 1})));
  CHECK(dropped_rows(routing).item<int64_t>() == 1);
  CHECK(dropped_rows(routing, torch::tensor({true, true, false})).item<int64_t>() == 0);
  SECTION("where every row is computed") {
    routing.kept = torch::Tensor();
    CHECK(torch::equal(expert_counts(routing), torch::tensor({3, 2, 0, 1})));
    CHECK(dropped_rows(routing).item<int64_t>() == 0);
  }
  SECTION("where experts choose, what they do not choose is not dropped") {
    routing.chosen = routing.kept;
    CHECK(torch::equal(chosen_counts(routing), torch::tensor({2, 2, 0, 1})));
    CHECK(dropped_rows(routing).item<int64_t>() == 0);
  }
}

TEST_CASE("select_tokens takes all that is known of some tokens", "[layers]") {
  auto routing = routing_with_a_drop();
  const auto positions = torch::tensor({2, 0});
  auto selected = select_tokens(routing, positions);
  CHECK_THAT(selected.logits, SameBits(routing.logits.index({positions})));
  CHECK(torch::equal(selected.experts, torch::tensor({{1, 0}, {0, 1}})));
  CHECK(torch::equal(selected.kept, torch::tensor({{true, false}, {true, true}})));
  CHECK_FALSE(selected.chosen.defined());
  routing.chosen = routing.kept;
  CHECK(torch::equal(select_tokens(routing, positions).chosen, selected.kept));
}
