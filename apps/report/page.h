#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace moe {

/// `text` for HTML, in and outside of attributes.
std::string escape_html(std::string_view text);

/// One HTML page without any reference to the outside that shows `data` (see `report_data`).
/// What stands out and the table of layers need no script; the figures do. Its own script is
/// the only one that may run: the page allows no other by its hash.
std::string report_page(const nlohmann::ordered_json& data);

} // namespace moe
