#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

using nlohmann::json;

Arguments report_flags(
    const std::string& model, const std::filesystem::path& out, const Arguments& more = {}) {
  Arguments flags = {
      model,
      "--data=" + text_source("en"),
      "--data=" + text_source("de"),
      "--tokens=512",
      "--threads=1",
      "--out=" + out.string()};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

} // namespace

TEST_CASE("moe-report makes a page of a run, and of a model folder", "[programs]") {
  const TemporaryFolder folder;
  const auto run_folder = folder.path() / "run";
  train(run_folder);
  const auto page = folder.path() / "report.html";
  const auto numbers = folder.path() / "report.json";
  const auto result = run(
      "moe-report", report_flags(run_folder.string(), page, {"--json=" + numbers.string()}));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.out.empty());
  const auto html = read_bytes(page);
  CHECK(html.starts_with("<!doctype html>"));
  CHECK_THAT(html, ContainsSubstring("qwen3_moe, step-000000"));

  const auto data = json::parse(read_bytes(numbers));
  CHECK(data["sample"]["tokens"] == 1024);
  CHECK(data["sample"]["domains"][1]["name"] == "de");
  REQUIRE(data["layers"].size() == 2);
  CHECK(data["layers"][1]["load"].size() == 4);
  CHECK(data["layers"][1]["domains"].size() == 2);
  CHECK(data["training"]["lines"] == 10);
  CHECK(data["training"]["curves"]["loss"].size() == 10);
  CHECK(data["training"]["layers"].size() == 2);
  CHECK_FALSE(data["findings"].empty());

  // The same again, and without the run: no training.
  const auto again = folder.path() / "again.html";
  REQUIRE(run("moe-report", report_flags(run_folder.string(), again)).exit_code == 0);
  CHECK(read_bytes(again) == html);
  const auto model = (run_folder / "last").string();
  REQUIRE(
      run("moe-report", report_flags(model, again, {"--json=" + numbers.string()})).exit_code ==
      0);
  CHECK(json::parse(read_bytes(numbers))["training"].is_null());
}

TEST_CASE("moe-report says what it lacks", "[programs]") {
  const TemporaryFolder folder;
  CHECK_THAT(error_of("moe-report", {"nowhere"}, 2), ContainsSubstring("--data NAME=PATH"));
  CHECK_THAT(
      error_of("moe-report", {"nowhere", "--data=" + text_source("en"), "--tokens=0"}, 2),
      ContainsSubstring("--tokens: 0 is not possible"));
  const auto dense = folder.path() / "dense";
  train(dense, {"--num-experts=0"});
  CHECK_THAT(
      error_of("moe-report", report_flags(dense.string(), folder.path() / "r.html"), 1),
      ContainsSubstring("no layer with experts"));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "r.html"));
}

TEST_CASE("moe-generate shows the experts of each token", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out);
  const Arguments flags = {
      out.string(),
      "--prompt=Linux ist",
      "--max-new-tokens=5",
      "--temperature=0",
      "--threads=1"};
  auto traced = flags;
  traced.push_back("--trace-experts");
  const auto result = run("moe-generate", traced);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.err, ContainsSubstring("computed by modules (trace of experts)"));
  CHECK_THAT(result.out, ContainsSubstring("layer           0    1  \nL               "));
  CHECK(result.out.find('\033') == std::string::npos);

  auto as_json = flags;
  as_json.push_back("--json");
  const auto plain = json::parse(run("moe-generate", as_json).out);
  as_json.push_back("--trace-experts");
  const auto trace = json::parse(run("moe-generate", as_json).out);
  CHECK(trace["text"] == plain["text"]);
  CHECK(trace["ids"] == plain["ids"]);
  CHECK(trace["moe_layers"] == json::array({0, 1}));
  // Every token, those of the prompt and the last one too.
  REQUIRE(trace["tokens"].size() == 9 + trace["ids"].size());
  CHECK(trace["tokens"][0]["text"] == "L");
  CHECK(trace["tokens"].back()["id"] == trace["ids"].back());
  for (const auto& token : trace["tokens"]) {
    REQUIRE(token["experts"].size() == 2);
    for (size_t layer = 0; layer < 2; ++layer) {
      REQUIRE(token["experts"][layer].size() == 2);
      CHECK(token["experts"][layer][0] != token["experts"][layer][1]);
      const auto weights = token["weights"][layer].get<std::vector<double>>();
      CHECK(weights[0] >= weights[1]);
      CHECK_THAT(weights[0] + weights[1], WithinAbs(1.0, 1e-5));
    }
  }
  // The same for ids, which make no text here, and for rounded weights.
  const auto ids = json::parse(
      run("moe-generate",
          {out.string(), "--prompt-ids=5,6", "--max-new-tokens=3", "--json", "--trace-experts"})
          .out);
  CHECK(ids["tokens"].size() == 2 + ids["ids"].size());
  auto rounded = flags;
  rounded.insert(rounded.end(), {"--weights=int8", "--json"});
  const auto packed = json::parse(run("moe-generate", rounded).out);
  rounded.push_back("--trace-experts");
  CHECK(json::parse(run("moe-generate", rounded).out)["ids"] == packed["ids"]);
}
