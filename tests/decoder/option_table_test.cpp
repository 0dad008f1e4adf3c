#include <set>

#include "moe/decoder/decoder_options.h"
#include "moe/generation/sampler_options.h"
#include "moe/training/trainer_options.h"
#include "tests/support/catch.h"
#include "tests/support/count_members.h"

using namespace moe;
using moe::testing::count_members;

namespace {

/// Another value of the same type and possible for the row.
OptionValue changed(const OptionValue& value, const std::vector<std::string_view>& choices) {
  struct Change {
    OptionValue operator()(bool known) const {
      return !known;
    }
    OptionValue operator()(int64_t known) const {
      return known + 1;
    }
    OptionValue operator()(double known) const {
      return known + 0.25;
    }
    OptionValue operator()(const std::string& known) const {
      return known + "x";
    }
    OptionValue operator()(std::vector<int64_t> known) const {
      known.push_back(1);
      return known;
    }
    OptionValue operator()(std::vector<double> known) const {
      known.push_back(1.0);
      return known;
    }
    OptionValue operator()(std::vector<std::string> known) const {
      known.emplace_back("x");
      return known;
    }
  };
  if (choices.empty()) {
    return std::visit(Change{}, value);
  }
  const bool is_last = std::get<std::string>(value) == choices.back();
  return std::string(is_last ? choices.front() : choices.back());
}

/// Each row reads what it wrote, no two write to the same member, and no key stands twice.
template <class Form>
void check_rows() {
  std::set<std::string> keys;
  for (const auto& row : option_table<Form>()) {
    CAPTURE(row.key);
    CHECK(keys.insert(row.key).second);
    CHECK_FALSE(row.help.empty());
    Form form;
    const auto value = changed(row.read(form), row.traits.choices);
    row.write(form, value);
    CHECK(row.read(form) == value);
    CHECK_FALSE(form == Form());
    for (const auto& other : option_table<Form>()) {
      CHECK((other.read(form) == other.read(Form())) == (other.key != row.key));
    }
  }
}

} // namespace

TEST_CASE("option tables: every member of a form has a row", "[decoder]") {
  CHECK(option_table<AttentionForm>().size() == count_members<AttentionForm>());
  CHECK(option_table<RotaryForm>().size() == count_members<RotaryForm>());
  CHECK(option_table<NormForm>().size() == count_members<NormForm>());
  CHECK(option_table<ExpertForm>().size() == count_members<ExpertForm>());
  CHECK(option_table<RouterForm>().size() == count_members<RouterForm>());
  CHECK(option_table<TrainerOptions>().size() == count_members<TrainerOptions>());
  CHECK(option_table<SamplerOptions>().size() == count_members<SamplerOptions>());
  const size_t of_forms = option_table<AttentionForm>().size() +
                          option_table<RotaryForm>().size() + option_table<NormForm>().size() +
                          option_table<ExpertForm>().size() + option_table<RouterForm>().size();
  constexpr size_t forms = 5;
  CHECK(
      option_table<DecoderOptions>().size() ==
      count_members<DecoderOptions>() - forms + of_forms);
}

TEST_CASE("option tables: a row is of one member", "[decoder]") {
  check_rows<DecoderOptions>();
  check_rows<TrainerOptions>();
  check_rows<SamplerOptions>();
}

TEST_CASE("option tables: what has no effect gets its default", "[decoder]") {
  RouterForm router{.cosine_dim = 3, .groups = 4, .weighting = RouterWeighting::softmax};
  router.normalize_weights = false;
  reset_unused(router);
  CHECK(router == RouterForm{.weighting = RouterWeighting::softmax});
  RotaryForm rotary{.scaling = RotaryScaling::linear, .factor = 2.0, .beta_fast = 3.0};
  reset_unused(rotary);
  CHECK(rotary == RotaryForm{.scaling = RotaryScaling::linear, .factor = 2.0});
}

TEST_CASE("option tables: values out of range are named with the range", "[decoder]") {
  CHECK(range_problem(RouterForm()).empty());
  CHECK(
      range_problem(RouterForm{.jitter = 1.0}) ==
      "router_jitter: 1 is not possible; a number from 0 to below 1");
  CHECK(
      range_problem(AttentionForm{.num_heads = 0}) ==
      "num_heads: 0 is not possible; at least 1");
  CHECK(
      range_problem(RotaryForm{.short_factors = {1.0, -2.0}}) ==
      "rope_short_factors: -2 is not possible; a number above 0");
  TrainerOptions training;
  training.device = "gpu";
  CHECK(range_problem(training) == "device: 'gpu' is not possible; cpu or cuda");
}
