#include "apps/option_value.h"

#include <limits>

#include "apps/exit_code.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

template <class T>
T parsed(const std::vector<std::string>& arguments) {
  T field{};
  return std::get<T>(parse_option("--x", access_to(&field), arguments));
}

} // namespace

TEST_CASE("option values: texts are read by the field's type", "[apps]") {
  CHECK(parsed<bool>({"true"}));
  CHECK_FALSE(parsed<bool>({"true", "no"}));
  CHECK(parsed<int64_t>({"-9223372036854775808"}) == std::numeric_limits<int64_t>::min());
  CHECK(parsed<int64_t>({"+7"}) == 7);
  CHECK(parsed<double>({"1e-3"}) == 1e-3);
  CHECK(parsed<std::string>({"[a,b]"}) == "[a,b]");
  CHECK(parsed<std::vector<int64_t>>({"0,2", "5"}) == std::vector<int64_t>{0, 2, 5});
  CHECK(parsed<std::vector<int64_t>>({""}).empty());
  CHECK(parsed<std::vector<std::string>>({"a,b", ""}) == std::vector<std::string>{"a,b", ""});
}

TEST_CASE("option values: what is no value is named with what would be", "[apps]") {
  REQUIRE_THROWS_AS(parsed<int64_t>({"1.5"}), UsageError);
  REQUIRE_THROWS_WITH(
      parsed<int64_t>({"1.5"}),
      ContainsSubstring("--x: '1.5' is not possible; a whole number"));
  for (const char* text : {"", "+", "+-1", "0x10", " 1", "1 ", "9223372036854775808"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parsed<int64_t>({text}), UsageError);
  }
  for (const char* text : {"", "1,5", "1e999", "one"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parsed<double>({text}), UsageError);
  }
  for (const char* text : {",", "1,", ",1", "1,,2", "1;2"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parsed<std::vector<int64_t>>({text}), UsageError);
  }
  CHECK_THROWS_AS(parsed<bool>({"maybe"}), UsageError);
}

TEST_CASE("option values: TOML texts keep type and value", "[apps]") {
  CHECK(to_toml(OptionValue(true)) == "true");
  CHECK(to_toml(OptionValue(int64_t{-3})) == "-3");
  CHECK(to_toml(OptionValue(1.0)) == "1.0");
  CHECK(to_toml(OptionValue(1e-8)) == "1e-08");
  CHECK(to_toml(OptionValue(0.1)) == "0.1");
  CHECK(to_toml(OptionValue(std::numeric_limits<double>::infinity())) == "inf");
  CHECK(to_toml(OptionValue(std::string("a\"b\\c\n\t\x01#ü"))) == R"("a\"b\\c\n\t\u0001#ü")");
  CHECK(to_toml(OptionValue(std::vector<int64_t>{1, 2})) == "[1, 2]");
  CHECK(to_toml(OptionValue(std::vector<std::string>{"a", ""})) == R"(["a", ""])");
  CHECK(to_toml(OptionValue(std::vector<std::string>{})) == "[]");
}

TEST_CASE("option values: text that is not UTF-8 cannot be TOML", "[apps]") {
  REQUIRE_THROWS_WITH(
      to_toml(OptionValue(std::string("x\xff"))), ContainsSubstring("is not UTF-8"));
}
