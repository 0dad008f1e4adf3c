#include "apps/report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <vector>

#include "apps/report/page_files.h"
#include "moe/data/sha256.h"
#include "moe/error.h"

namespace moe {
namespace {

using Json = nlohmann::ordered_json;

std::string base64(std::span<const uint8_t> bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? bytes[i + j] : 0U);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63U] : '=';
    }
  }
  return text;
}

/// JSON that cannot end the script element it stands in.
std::string script_json(const Json& data) {
  const auto text = data.dump(
      /*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  std::string escaped;
  for (const char c : text) {
    if (c == '<') {
      escaped += "\\u003c";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

/// Replaces each {{name}} of the template once; what is put in is not read again.
std::string fill(
    std::string_view text, const std::map<std::string, std::string, std::less<>>& values) {
  std::string result;
  while (true) {
    const size_t begin = text.find("{{");
    const size_t end = text.find("}}", begin);
    result += text.substr(0, begin);
    if (begin == std::string_view::npos || end == std::string_view::npos) {
      return result;
    }
    const auto name = text.substr(begin + 2, end - begin - 2);
    const auto value = values.find(name);
    check(value != values.end(), "page.html: nothing to put in for ", name);
    result += value->second;
    text.remove_prefix(end + 2);
  }
}

/// 1234567 as "1.23 M".
std::string short_number(double number) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  size_t unit = 0;
  for (; number >= 1000.0 && unit + 1 < std::size(kUnits); ++unit) {
    number /= 1000.0;
  }
  return unit == 0 ? fmt::format("{:g}", number)
                   : fmt::format("{:.3g}{}", number, kUnits[unit]);
}

/// The headline numbers.
struct Headline {
  double busiest = 0.0; ///< load relative to the mean
  int64_t busiest_layer = 0;
  int64_t busiest_expert = 0;
  int64_t experts = 0;
  int64_t dead = 0;
  double entropy = 1.0; ///< the lowest
  int64_t entropy_layer = 0;
  double bits = -1.0; ///< the most specialised layer's
  double chance = 0.0;
  int64_t bits_layer = 0;
};

Headline make_headline(const Json& layers) {
  Headline headline;
  for (const auto& layer : layers) {
    const auto load = layer["load"].get<std::vector<double>>();
    const auto number = layer["layer"].get<int64_t>();
    const auto busiest = std::max_element(load.begin(), load.end());
    const double relative = *busiest * static_cast<double>(load.size());
    if (relative > headline.busiest) {
      headline.busiest = relative;
      headline.busiest_layer = number;
      headline.busiest_expert = busiest - load.begin();
    }
    headline.experts += static_cast<int64_t>(load.size());
    headline.dead +=
        std::lround(layer["dead"].get<double>() * static_cast<double>(load.size()));
    if (const double entropy = layer["entropy"]; entropy < headline.entropy) {
      headline.entropy = entropy;
      headline.entropy_layer = number;
    }
    const auto& domains = layer["specialisation"];
    if (const double bits = domains["bits"]; bits > headline.bits) {
      headline.bits = bits;
      headline.chance = domains["chance_95"];
      headline.bits_layer = number;
    }
  }
  return headline;
}

std::string headline_html(const Json& data) {
  const auto headline = make_headline(data["layers"]);
  std::string html;
  const auto add = [&html](
                       const std::string& number,
                       const std::string& name,
                       const std::string& where) {
    html += fmt::format(
        "<div><dt>{}</dt><dd>{}</dd><dd class=\"where\">{}</dd></div>\n", name, number, where);
  };
  add(fmt::format("{:.2f}", headline.entropy),
      "Evenness",
      fmt::format("lowest, in layer {}; 1 is even", headline.entropy_layer));
  add(fmt::format("{:.1f} ×", headline.busiest),
      "Busiest expert",
      fmt::format(
          "the mean load: layer {}, expert {}",
          headline.busiest_layer,
          headline.busiest_expert));
  add(fmt::format("{} <small>of {}</small>", headline.dead, headline.experts),
      "Unused experts",
      "below 1 % of the mean load");
  if (data["sample"]["domains"].size() > 1) {
    add(fmt::format("{:.2f} <small>bits</small>", headline.bits),
        "Tells of the domain",
        fmt::format("layer {}; chance reaches {:.2f}", headline.bits_layer, headline.chance));
  }
  return html;
}

std::string findings_html(const Json& findings) {
  static const std::map<std::string, std::string> kMarks = {
      {"good", "Good"}, {"note", "Note"}, {"warning", "Warning"}};
  std::string html;
  for (const auto& finding : findings) {
    const auto kind = finding["kind"].get<std::string>();
    html += fmt::format(
        "<li class=\"{}\"><strong>{}</strong> {}</li>\n",
        kind,
        kMarks.at(kind),
        escape_html(finding["text"].get<std::string>()));
  }
  return html;
}

std::string layers_html(const Json& layers) {
  std::string html;
  for (const auto& layer : layers) {
    const auto& domains = layer["specialisation"];
    html += fmt::format(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{:.3f}</td><td>{:.2f}</td><td>{:.0f} "
        "%</td><td>{:.3f}</td><td>{:.3f}</td><td>{:.0f} %</td></tr>\n",
        layer["layer"].get<int64_t>(),
        layer["experts"].get<int64_t>(),
        layer["entropy"].get<double>(),
        layer["max_violation"].get<double>() + 1.0,
        layer["dead"].get<double>() * 100.0,
        domains["bits"].get<double>(),
        domains["chance_95"].get<double>(),
        domains["share"].get<double>() * 100.0);
  }
  return html;
}

std::string domains_html(const Json& domains) {
  std::string html;
  for (const auto& domain : domains) {
    html += fmt::format(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        escape_html(domain["name"].get<std::string>()),
        domain["tokens"].get<int64_t>(),
        domain["documents"].get<int64_t>(),
        domain["pieces"].get<int64_t>());
  }
  return html;
}

std::string subtitle_html(const Json& data) {
  const auto& model = data["model"];
  const auto& layers = data["layers"];
  const auto checkpoint = model["checkpoint"].get<std::string>();
  return escape_html(fmt::format(
      "{}{}. {} of its {} layers choose {} of {} experts for each token. It has {} parameters, "
      "of which a token uses {}. What follows is how it routed {} tokens of {} {}.",
      model["architecture"].get<std::string>(),
      checkpoint.empty() ? "" : ", " + checkpoint,
      layers.size(),
      model["layers"].get<int64_t>(),
      layers[0]["experts_per_token"].get<int64_t>(),
      layers[0]["experts"].get<int64_t>(),
      short_number(model["parameters"].get<double>()),
      short_number(model["active_parameters"].get<double>()),
      data["sample"]["tokens"].get<int64_t>(),
      data["sample"]["domains"].size(),
      data["sample"]["domains"].size() == 1 ? "domain" : "domains"));
}

std::string chance_text(const Json& data) {
  const auto& chance = data["chance"];
  return fmt::format(
      "{} {} and their domains, dealt out {} times",
      chance["units"].get<int64_t>(),
      chance["unit"] == "document" ? "documents" : "pieces of text",
      chance["shuffles"].get<int64_t>());
}

} // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string report_page(const nlohmann::ordered_json& data) {
  const auto script = std::string(page_files::charts_js) + std::string(page_files::page_js);
  const auto name = escape_html(data["model"]["name"].get<std::string>());
  return fill(
      page_files::page_html,
      {{"name", name},
       {"subtitle", subtitle_html(data)},
       {"routing", escape_html(data["model"]["routing"].get<std::string>())},
       {"headline", headline_html(data)},
       {"findings", findings_html(data["findings"])},
       {"layers", layers_html(data["layers"])},
       {"domains", domains_html(data["sample"]["domains"])},
       {"chance", chance_text(data)},
       {"min_occurrences", fmt::format("{}", data["min_occurrences"].get<int64_t>())},
       {"piece_length", fmt::format("{}", data["sample"]["piece_length"].get<int64_t>())},
       {"style", std::string(page_files::page_css)},
       {"script", script},
       {"script_hash", base64(sha256(script))},
       {"data", script_json(data)}});
}

} // namespace moe
