#include "moe/error.h"
#include "moe/files/json_internal.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("parse_json builds nested values", "[files]") {
  const Json json = parse_json(R"({"a": [1, -2, 2.5, "x", true, null, {"b": {}}]})", "f");
  CHECK(json.dump() == R"({"a":[1,-2,2.5,"x",true,null,{"b":{}}]})");
  CHECK(parse_json("7", "f") == 7);
}

TEST_CASE("parse_json refuses what parsers disagree about, naming file and place", "[files]") {
  CHECK_THROWS_WITH(parse_json(R"({"a":1,"\u0061":2})", "f"), "f: key 'a' occurs twice");
  CHECK_THROWS_WITH(parse_json("{\n\"a\":,}", "f"), ContainsSubstring("line 2"));
  CHECK_THROWS_AS(parse_json("", "f"), Error);
  CHECK_THROWS_AS(parse_json("{}{}", "f"), Error);
  CHECK_THROWS_AS(parse_json("{\"a\":\"\xff\"}", "f"), Error);
  CHECK_THROWS_AS(parse_json("[1e999]", "f"), Error);
  CHECK_THROWS_AS(parse_json("[NaN]", "f"), Error);
  CHECK_THROWS_AS(parse_json("// x\n{}", "f"), Error);
  CHECK_THROWS_WITH(parse_json(std::string("{}\0", 3), "f"), ContainsSubstring("NUL"));
}

TEST_CASE("parse_json bounds depth and size", "[files]") {
  const std::string deep(100'000, '[');
  CHECK_THROWS_WITH(parse_json(deep, "f"), ContainsSubstring("deeper than 64"));
  CHECK_THROWS_WITH(
      parse_json("[1,2,3]", "f", {.depth = 64, .values = 3}), ContainsSubstring("more than 3"));
}
