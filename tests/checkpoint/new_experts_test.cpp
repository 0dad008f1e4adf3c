#include "moe/checkpoint/new_experts.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

TEST_CASE("new_experts.json gives back what was written", "[checkpoint]") {
  const TemporaryFolder folder;
  CHECK(read_new_experts(folder.path()).empty());
  const NewExperts experts = {{0, {8, 9}}, {3, {4}}};
  write_new_experts(folder.path(), experts);
  CHECK(read_new_experts(folder.path()) == experts);
}

TEST_CASE("new_experts.json: faults are named", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto refuses = [&](const std::string& text, const std::string& message) {
    CAPTURE(text);
    folder.write("new_experts.json", text);
    CHECK_THROWS_WITH(read_new_experts(folder.path()), ContainsSubstring(message));
  };
  refuses("{}", "expected {\"layers\": [");
  refuses(R"({"layers": [{"layer": "a", "experts": []}]})", "expected {\"layers\": [");
  refuses(R"({"layers": [{"layer": 0, "experts": [3, 2]}]})", "ascending order, found 2");
  refuses(R"({"layers": [{"layer": 0, "experts": [-1]}]})", "ascending order, found -1");
  refuses("{", "new_experts.json");
}
