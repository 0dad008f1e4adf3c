#include "apps/report/training_history.h"

#include <cmath>
#include <fstream>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

std::filesystem::path write_lines(
    const TemporaryFolder& folder, const std::vector<std::string>& lines) {
  const auto path = folder.path() / "metrics.jsonl";
  std::ofstream file(path);
  for (const auto& line : lines) {
    file << line << "\n";
  }
  return path;
}

const HistoryCurve& curve_of(const std::vector<HistoryCurve>& curves, const std::string& key) {
  for (const auto& curve : curves) {
    if (curve.key == key) {
      return curve;
    }
  }
  FAIL("no curve " << key);
  return curves.front();
}

} // namespace

TEST_CASE("A history has a curve for every number, of layers too", "[apps]") {
  const TemporaryFolder folder;
  const auto path = write_lines(
      folder,
      {R"({"step":1,"loss":4,"lr":0.1,"moe":[{"layer":2,"entropy":1,"dead":0,"load":[0.5,0.5]}]})",
       R"({"step":2,"loss":2,"val_loss":3,"lr":null,"moe":[{"layer":2,"entropy":0.5,"dead":0,"churn":0.25,"load":[1,0]}]})"});
  const auto history = read_training_history(path);
  CHECK(history.steps == std::vector<int64_t>{1, 2});
  CHECK(history.lines == 2);
  CHECK(history.unreadable == 0);
  CHECK(curve_of(history.curves, "loss").values == std::vector<double>{4, 2});
  CHECK(std::isnan(curve_of(history.curves, "val_loss").values[0]));
  CHECK(curve_of(history.curves, "val_loss").values[1] == 3.0);
  CHECK(std::isnan(curve_of(history.curves, "lr").values[1]));
  REQUIRE(history.layers.size() == 1);
  CHECK(history.layers[0].layer == 2);
  CHECK(curve_of(history.layers[0].curves, "entropy").values == std::vector<double>{1, 0.5});
  CHECK(curve_of(history.layers[0].curves, "churn").values[1] == 0.25);
  CHECK(history.layers[0].load == std::vector<std::vector<double>>{{1, 1}, {2, 0}});
}

TEST_CASE("A history without loads, as older runs have it", "[apps]") {
  const TemporaryFolder folder;
  const auto path =
      write_lines(folder, {R"({"step":1,"loss":4,"moe":[{"layer":0,"max_violation":0.5}]})"});
  const auto history = read_training_history(path);
  REQUIRE(history.layers.size() == 1);
  CHECK(history.layers[0].load.empty());
  CHECK(curve_of(history.layers[0].curves, "max_violation").values[0] == 0.5);
}

TEST_CASE("A long history is averaged, and its loads bounded", "[apps]") {
  const TemporaryFolder folder;
  std::vector<std::string> lines;
  for (int step = 1; step <= 1000; ++step) {
    lines.push_back(
        "{\"step\":" + std::to_string(step) + ",\"loss\":" + std::to_string(step) +
        ",\"moe\":[{\"layer\":0,\"load\":[0.25,0.75]},{\"layer\":1,\"load\":[0.5,0.5]}]}");
  }
  const auto history =
      read_training_history(write_lines(folder, lines), {.steps = 10, .cells = 36});
  CHECK(history.steps.size() == 10);
  CHECK(history.steps.back() == 1000);
  CHECK_THAT(history.curves[0].values[0], WithinAbs(50.5, 1e-9));
  CHECK_THAT(history.curves[0].values[9], WithinAbs(950.5, 1e-9));
  // 36 cells are 9 times for the 4 experts of both layers.
  CHECK(history.load_steps.size() == 9);
  REQUIRE(history.layers[0].load.size() == 9);
  CHECK(history.layers[0].load[8] == std::vector<double>{0.5, 1.5});
}

TEST_CASE("A history of very many steps is read in parts, validation whole", "[apps]") {
  const TemporaryFolder folder;
  std::vector<std::string> lines;
  for (int step = 1; step <= 200; ++step) {
    const std::string validation = step % 50 == 7 ? ",\"val_loss\":1" : "";
    lines.push_back("{\"step\":" + std::to_string(step) + validation + ",\"loss\":1}");
  }
  const auto history =
      read_training_history(write_lines(folder, lines), {.steps = 200, .parsed = 20});
  size_t read = 0;
  size_t validated = 0;
  for (size_t i = 0; i < history.steps.size(); ++i) {
    read += !std::isnan(curve_of(history.curves, "loss").values[i]);
    validated += !std::isnan(curve_of(history.curves, "val_loss").values[i]);
  }
  CHECK(validated == 4);
  CHECK(read >= 20);
  CHECK(read <= 24);
}

TEST_CASE("A history tells of collapses in words", "[apps]") {
  const TemporaryFolder folder;
  const auto history = read_training_history(write_lines(
      folder,
      {R"({"step":7,"collapse":[{"kind":"dead_experts","layer":3,"num_experts":8,"experts":[2,5],"since_step":4},{"kind":"none"},7]})",
       R"({"step":9,"recovered":[{"kind":"dead_experts","layer":3,"num_experts":8,"experts":[5],"since_step":4}]})"}));
  REQUIRE(history.events.size() == 2);
  CHECK(history.events[0].step == 7);
  CHECK(history.events[0].began);
  CHECK_THAT(history.events[0].text, ContainsSubstring("layer 3"));
  CHECK_THAT(history.events[0].text, ContainsSubstring("2 and 5"));
  CHECK(history.events[1].step == 9);
  CHECK_FALSE(history.events[1].began);
}

TEST_CASE("A damaged history is what is left of it", "[apps]") {
  const TemporaryFolder folder;
  const auto path = write_lines(
      folder,
      {"{\"step\":1,\"loss\":1,\"moe\":7}",
       "not JSON",
       "[1,2]",
       "{\"step\":\"x\"}",
       R"({"step":2,"loss":1,"moe":[3,{"layer":"0"},{"layer":0,"load":["a"]},{"layer":0,"load":{}}]})"});
  const auto history = read_training_history(path);
  CHECK(history.lines == 5);
  CHECK(history.unreadable == 3);
  REQUIRE(history.layers.size() == 1);
  CHECK(history.layers[0].load.empty());
  CHECK_THROWS_WITH(
      read_training_history(folder.path() / "none"), ContainsSubstring("cannot read"));
  CHECK(read_training_history(write_lines(folder, {})).steps.empty());
}
