#pragma once

#include <cstdint>
#include <string>

namespace moe {

/// The bytes of a safetensors file with this header text; `length` replaces the true header
/// length.
inline std::string safetensors_bytes(
    const std::string& header, const std::string& data = "", int64_t length = -1) {
  std::string bytes;
  const auto size = length < 0 ? header.size() : static_cast<uint64_t>(length);
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>(size >> (8 * i) & 0xff);
  }
  return bytes + header + data;
}

/// The header text of one tensor; the parts are JSON.
inline std::string tensor_json(
    const std::string& type = "\"F32\"",
    const std::string& shape = "[2]",
    const std::string& offsets = "[0,8]") {
  return "{\"dtype\":" + type + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

} // namespace moe
