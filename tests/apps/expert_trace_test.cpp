#include "apps/expert_trace.h"

#include <cstdlib>

#include "apps/terminal.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

TraceStyle style_of(std::vector<int64_t> layers, int64_t num_experts, int64_t per_token) {
  return {std::move(layers), num_experts, per_token, ColourDepth::none, 0};
}

const TracedToken token = {5, {{{3, 0}, {0.75F, 0.25F}}, {{1, 7}, {0.5F, 0.5F}}}};

} // namespace

TEST_CASE("A trace is a table that is readable without colours", "[apps]") {
  const auto style = style_of({0, 2}, 8, 2);
  CHECK(trace_header(style) == "layer           0    2  \n");
  CHECK(trace_row(" the", token, style) == "␣the            3 0  1 7\n");
  CHECK(trace_row("a very long token\n", token, style) == "a␣very␣long␣to  3 0  1 7\n");
  // Where experts are dropped, there are fewer.
  CHECK(trace_row("x", {5, {{{3}, {1.0F}}, {}}}, style) == "x               3 -  - -\n");
}

TEST_CASE("A trace cannot write to the terminal what a token says", "[apps]") {
  const auto row = trace_row("\033]0;evil\a\u202E\xFF", token, style_of({0, 2}, 8, 2));
  CHECK(row.find('\033') == std::string::npos);
  CHECK(row.find('\a') == std::string::npos);
  CHECK(row.starts_with("␛]0;evil␇"));
}

TEST_CASE("A trace gives each expert a colour", "[apps]") {
  auto style = style_of({0, 2}, 8, 2);
  style.colours = ColourDepth::full;
  const auto full = trace_row("x", token, style);
  CHECK_THAT(full, ContainsSubstring("\033[30;48;2;204;121;167m3\033[0m"));
  CHECK_THAT(full, ContainsSubstring("\033[97;48;2;0;114;178m0\033[0m"));
  style.colours = ColourDepth::palette;
  CHECK_THAT(trace_row("x", token, style), ContainsSubstring("\033[97;48;5;31m0\033[0m"));
  // Colours take no room.
  CHECK(display_width(full) == display_width(trace_row("x", token, style_of({0, 2}, 8, 2))));
}

TEST_CASE("A trace fits the terminal", "[apps]") {
  auto style = style_of({0, 1, 2, 3}, 128, 2);
  TracedToken wide;
  wide.layers.assign(4, {{101, 7}, {0.5F, 0.5F}});
  CHECK(trace_row("x", wide, style) == "x               101   7  101   7  101   7  101   7\n");
  style.columns = 40;
  CHECK(trace_row("x", wide, style) == "x               101  101  101  101\n");
  style.columns = 25;
  CHECK(trace_row("x", wide, style) == "x               101  101\n                101  101\n");
}

TEST_CASE("A traced token as JSON", "[apps]") {
  CHECK(
      trace_json("the", token).dump() ==
      R"({"id":5,"text":"the","experts":[[3,0],[1,7]],"weights":[[0.75,0.25],[0.5,0.5]]})");
}
