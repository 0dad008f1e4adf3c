#include "moe/checkpoint/generation_config.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

TEST_CASE("read_end_of_text: generation_config.json before config.json", "[checkpoint]") {
  const TemporaryFolder folder;
  ConfigExtras config;
  config.eos_token_ids = {5, 6};
  const auto read = [&] { return read_end_of_text(folder.path(), config, /*vocab_size=*/10); };
  CHECK(read().ids == std::vector<int32_t>{5, 6});
  const std::string name = "generation_config.json";
  folder.write(name, R"({"top_k": 3})");
  CHECK(read().ids.empty());
  folder.write(name, R"({"eos_token_id": 9})");
  CHECK(read().ids == std::vector<int32_t>{9});
  CHECK(read().notices.empty());
  folder.write(name, R"({"eos_token_id": [10, 2, 18446744073709551615]})");
  CHECK_THROWS_WITH(read(), ContainsSubstring(name + ": eos_token_id: 18446744073709551615"));
  folder.write(name, R"({"eos_token_id": [-1]})");
  CHECK_THROWS_WITH(read(), ContainsSubstring("-1 is no token id"));
}

TEST_CASE("read_end_of_text leaves out ids that no token has, and says so", "[checkpoint]") {
  const TemporaryFolder folder;
  folder.write("generation_config.json", R"({"eos_token_id": [10, 2, 5000000000]})");
  const auto end = read_end_of_text(folder.path(), {}, /*vocab_size=*/10);
  CHECK(end.ids == std::vector<int32_t>{2});
  REQUIRE(end.notices.size() == 1);
  CHECK_THAT(
      end.notices[0],
      ContainsSubstring(
          "generation_config.json: eos_token_id: ignored 10, 5000000000, which the vocabulary "
          "of 10 tokens does not have"));
}
