#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace moe {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json; ///< keeps the order in which keys were added

/// How much JSON is believed: nesting, and values in all.
struct JsonLimits {
  size_t depth = 64;
  size_t values = 4'000'000;
};

/// Parses one JSON value that fills the whole text. Stricter than the library below: no key
/// twice in an object, no NUL bytes, bounded depth and size. Throws `Error` that begins with
/// `file`.
Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits = {});

/// Reads and parses a file whose top level is an object.
Json read_json_object(const std::filesystem::path& path);

} // namespace moe
