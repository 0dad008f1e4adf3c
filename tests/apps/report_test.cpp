#include <cmath>

#include "apps/report/findings.h"
#include "apps/report/page.h"
#include "apps/report/report_data.h"
#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/routing_records.h"

using namespace moe;
using namespace moe::testing;

namespace {

using Json = nlohmann::ordered_json;

ReportModel small_model() {
  return {
      "runs/x", "step-00000010", "qwen3_moe", "softmax over 4 experts", 2, 1'234'567, 99'000};
}

/// Two domains that prefer other experts of four; ids are bytes.
RoutingRecord small_record() {
  auto record =
      routing_record(2, 5, 2, 30, 4, [](int64_t domain, int64_t, std::mt19937_64& random) {
        auto experts = any_experts(4, 2, random);
        if (random() % 2 == 0) {
          experts = {static_cast<int32_t>(2 * domain), static_cast<int32_t>(2 * domain + 1)};
        }
        return experts;
      });
  for (auto& id : record.ids) {
    id += 'A';
  }
  return record;
}

Json small_data(const RoutingRecord& record = small_record()) {
  ReportSettings settings;
  settings.shuffles = 50;
  return report_data(small_model(), record, Tokenizer::bytes(), std::nullopt, settings);
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

LayerRouting routing_of(const std::vector<int64_t>& counts) {
  return layer_routing(3, counts);
}

DomainSpecialisation specialised(double bits, double chance) {
  DomainSpecialisation domains;
  domains.layers = {{bits, bits / 2.0, chance / 2.0, chance}};
  domains.shuffles = 200;
  return domains;
}

} // namespace

TEST_CASE("Findings name layers and experts", "[apps]") {
  const auto dead = find_remarks({routing_of({500, 500, 0, 500, 0})}, specialised(0, 0), 1);
  REQUIRE(dead.size() == 2);
  CHECK(dead[0].kind == Finding::Kind::warning);
  CHECK_THAT(dead[0].text, ContainsSubstring("Layer 3: experts 2 and 4 get next to nothing"));
  const auto one = find_remarks({routing_of({500, 500, 0})}, specialised(0, 0), 1);
  CHECK_THAT(one[0].text, ContainsSubstring("Layer 3: expert 2 gets next to nothing"));
  const auto busy = find_remarks({routing_of({900, 30, 30, 40})}, specialised(0, 0), 1);
  CHECK_THAT(
      busy[0].text, ContainsSubstring("expert 0 gets 3.6 times the mean load (90 % of all"));
  const auto many =
      find_remarks({routing_of({900, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})}, specialised(0, 0), 1);
  CHECK_THAT(many[0].text, ContainsSubstring("experts 1, 2, 3, 4, 5, 6, 7, 8 and 3 more get"));
}

TEST_CASE("Findings see specialisation beyond chance only", "[apps]") {
  const std::vector<LayerRouting> even = {routing_of({5, 5})};
  const auto good = find_remarks(even, specialised(0.5, 0.1), 3);
  REQUIRE(good.size() == 2);
  CHECK(good[0].kind == Finding::Kind::good);
  CHECK(good[1].kind == Finding::Kind::good);
  CHECK_THAT(good[1].text, ContainsSubstring("0.50 bits of the domain, 25 % of the most"));
  const auto none = find_remarks(even, specialised(0.1, 0.1), 3);
  CHECK(none[1].kind == Finding::Kind::note);
  CHECK_THAT(none[1].text, ContainsSubstring("no sign that experts specialise"));
  auto pieces = specialised(0.5, 0.1);
  pieces.unit = ShuffleUnit::piece;
  CHECK_THAT(find_remarks(even, pieces, 3)[2].text, ContainsSubstring("fewer than four"));
}

TEST_CASE("The report's numbers are those of the analysis", "[apps]") {
  const auto record = small_record();
  const auto data = small_data(record);
  CHECK(data["sample"]["tokens"] == 600);
  CHECK(data["sample"]["domains"][1]["documents"] == 5);
  CHECK(data["sample"]["domains"][1]["pieces"] == 10);
  REQUIRE(data["layers"].size() == 1);
  const auto& layer = data["layers"][0];
  double load = 0.0;
  for (const double share : layer["load"].get<std::vector<double>>()) {
    load += share;
  }
  CHECK_THAT(load, WithinAbs(1.0, 1e-3));
  const auto domains = specialisation(record, 50, 0);
  CHECK_THAT(
      layer["specialisation"]["bits"].get<double>(), WithinRel(domains.layers[0].bits, 1e-3));
  CHECK(layer["specialisation"]["bits"] > layer["specialisation"]["chance_95"]);
  const auto choices = choices_by_domain(record, record.layers[0]);
  CHECK_THAT(
      layer["domains"][1][2].get<double>(),
      WithinRel(static_cast<double>(choices[1][2]) / 600.0, 1e-3));
  CHECK(layer["pairs"]["log2_ratio"].size() == 4);
  CHECK(layer["pairs"]["log2_ratio"][3].size() == 3);
  REQUIRE(data["texts"].size() == 20);
  const auto& text = data["texts"][3];
  const auto begin = static_cast<size_t>(record.pieces[3].begin);
  CHECK(text["tokens"].size() == 30);
  CHECK(text["layers"][0]["experts"][4] == record.layers[0].experts[2 * begin + 4]);
  CHECK(text["layers"][0]["weights"][0] == 50);
  CHECK(data["training"].is_null());
}

TEST_CASE("The report of a big model is bounded", "[apps]") {
  auto record =
      routing_record(6, 4, 4, 100, 128, [](int64_t, int64_t, std::mt19937_64& random) {
        return any_experts(128, 8, random);
      });
  for (int64_t layer = 1; layer < 48; ++layer) {
    record.layers.push_back(record.layers[0]);
    record.layers.back().layer = layer;
  }
  TrainingHistory history;
  history.steps.assign(240, 1);
  history.load_steps.assign(19, 1);
  for (int64_t layer = 0; layer < 48; ++layer) {
    history.layers.push_back(
        {layer,
         {{"entropy", std::vector<double>(240, 0.91234)}},
         std::vector<std::vector<double>>(19, std::vector<double>(128, 1.03))});
  }
  ReportSettings settings;
  settings.shuffles = 2;
  const auto data = report_data(small_model(), record, Tokenizer::bytes(), history, settings);
  CHECK(data["layers"][0]["pairs"]["experts"].size() == 48);
  CHECK(report_page(data).size() < 4'000'000);
}

TEST_CASE("The page holds everything and refers to nothing", "[apps]") {
  const auto page = report_page(small_data());
  CHECK_THAT(page, ContainsSubstring("<title>Experts of runs/x</title>"));
  CHECK_THAT(page, ContainsSubstring("step-00000010"));
  CHECK_THAT(page, ContainsSubstring("1.23 M parameters"));
  CHECK(page.find("{{") == std::string::npos);
  for (const char* reference : {"src=", "href=", "url(", "@import", "//cdn"}) {
    CAPTURE(reference);
    CHECK(page.find(reference) == std::string::npos);
  }
  CHECK_THAT(page, ContainsSubstring("script-src 'sha256-"));
  CHECK(count(page, "<script") == 2);
  CHECK(count(page, "</script>") == 2);
}

TEST_CASE("Nothing that a file says becomes part of the page's markup", "[apps]") {
  const std::string evil =
      "</script><script>alert(1)</script><img src=x onerror=\"alert('2')\">";
  auto data = small_data();
  data["model"]["name"] = evil;
  data["sample"]["domains"][0]["name"] = evil;
  data["findings"][0]["text"] = evil;
  data["texts"][0]["tokens"][0] = evil + "<!-- {{data}}";
  data["layers"][0]["tokens"][0] = Json::array({{evil, 1.5, 3, 4}});
  const auto page = report_page(data);
  CHECK(count(page, "<script") == 2);
  CHECK(count(page, "</script>") == 2);
  CHECK(page.find("<img") == std::string::npos);
  CHECK(page.find("<!--") == std::string::npos);
  CHECK_THAT(
      page, ContainsSubstring("&lt;img src=x onerror=&quot;alert(&#39;2&#39;)&quot;&gt;"));
  CHECK_THAT(page, ContainsSubstring("\\u003c!-- {{data}}"));
}

TEST_CASE("Tokens that are no text are shown as what they are", "[apps]") {
  auto record = small_record();
  record.ids.assign(record.ids.size(), 'x');
  std::fill_n(record.ids.begin(), 20, 0xE3);      // half a character
  std::fill_n(record.ids.begin() + 20, 20, 0x1B); // escape
  const auto data = small_data(record);
  CHECK(data["texts"][0]["tokens"][19].get<std::string>().find('\033') == std::string::npos);
  CHECK(data["texts"][0]["tokens"][20].get<std::string>().ends_with("␛"));
  const auto page = report_page(data);
  CHECK(page.find('\033') == std::string::npos);
}
