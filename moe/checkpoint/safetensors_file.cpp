#include "moe/checkpoint/safetensors_file.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "moe/error.h"
#include "moe/files/json_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kLongestHeader = 100'000'000;

// What people try to load instead, by the first bytes.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kOtherFiles{{
    {"PK\x03\x04", "a zip archive (a PyTorch .bin or .pt file?)"},
    {"\x80\x02", "a Python pickle"},
    {"\x80\x04", "a Python pickle"},
    {"GGUF", "a GGUF file"},
    {"\x1f\x8b", "gzip-compressed"},
    {"<!DOCTYPE", "an HTML page"},
    {"<html", "an HTML page"},
    {"version https://git-lfs", "a Git LFS pointer; fetch the real file with `git lfs pull`"},
}};

uint64_t little_endian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}

// The JSON text of the header, after all checks that need no JSON.
std::string_view header_text(std::span<const std::byte> bytes, const std::string& file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const auto& [magic, kind] : kOtherFiles) {
    check(!text.starts_with(magic), file, ": not a safetensors file but ", kind);
  }
  check(
      bytes.size() >= kLengthBytes,
      file,
      ": not a safetensors file: only ",
      bytes.size(),
      " bytes; cut off?");
  const uint64_t length = little_endian(bytes);
  check(
      length <= kLongestHeader && length <= bytes.size() - kLengthBytes,
      file,
      ": the header should have ",
      length,
      " bytes, the whole file has ",
      bytes.size(),
      "; cut off, or not a safetensors file");
  const auto header = text.substr(kLengthBytes, length);
  check(
      header.starts_with('{'),
      file,
      ": not a safetensors file: the header does not begin with '{'");
  return header;
}

const Json& member(const Json& entry, const char* key, const std::string& where) {
  check(entry.contains(key), where, " has no ", key);
  return entry[key];
}

std::vector<int64_t> read_sizes(const Json& list, const char* key, const std::string& where) {
  check(list.is_array(), where, ": ", key, " must be a list of sizes");
  std::vector<int64_t> sizes;
  sizes.reserve(list.size());
  for (const Json& value : list) {
    check(
        value.is_number_unsigned() &&
            value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()},
        where,
        ": ",
        key,
        " must hold whole numbers from 0 to 2^63 - 1");
    sizes.push_back(value.get<int64_t>());
  }
  return sizes;
}

TensorEntry read_entry(
    const std::string& name,
    const Json& entry,
    std::span<std::byte> data,
    const std::string& file) {
  const std::string where = file + ": tensor " + quote(name);
  check(entry.is_object(), where, " must be an object with dtype, shape and data_offsets");
  const Json& type = member(entry, "dtype", where);
  check(type.is_string(), where, ": dtype must be a string");
  TensorEntry tensor;
  tensor.name = name;
  try {
    tensor.type = element_type_from_name(type.get_ref<const std::string&>());
  } catch (const Error& error) {
    fail(where, ": ", error.what());
  }
  tensor.shape = read_sizes(member(entry, "shape", where), "shape", where);
  const auto offsets = read_sizes(member(entry, "data_offsets", where), "data_offsets", where);
  check(offsets.size() == 2, where, ": data_offsets must be [begin, end]");
  const auto begin = static_cast<uint64_t>(offsets[0]);
  const auto end = static_cast<uint64_t>(offsets[1]);
  check(
      begin <= end && end <= data.size(),
      where,
      ": data_offsets [",
      begin,
      ", ",
      end,
      "] do not lie in the ",
      data.size(),
      " bytes of data; cut off?");
  const auto needed = tensor_bytes(tensor.type, tensor.shape);
  check(
      needed == static_cast<int64_t>(end - begin),
      where,
      ": ",
      end - begin,
      " bytes do not hold ",
      element_type_name(tensor.type),
      " of shape ",
      shape_text(tensor.shape).substr(0, 200));
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

std::map<std::string, std::string> read_metadata(const Json& object, const std::string& file) {
  check(object.is_object(), file, ": __metadata__ must be an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : object.items()) {
    check(value.is_string(), file, ": __metadata__ ", quote(key), " must be a string");
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

// Sorts by place and makes sure that the tensors fill the data.
void check_places(
    std::vector<TensorEntry>& tensors, std::span<std::byte> data, const std::string& file) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    const auto* left = a.bytes.data();
    const auto* right = b.bytes.data();
    return left != right ? left < right : a.bytes.size() < b.bytes.size();
  });
  const std::byte* place = data.data();
  for (const TensorEntry& tensor : tensors) {
    check(
        tensor.bytes.data() == place,
        file,
        ": tensor ",
        quote(tensor.name),
        tensor.bytes.data() < place ? " overlaps the one before it" : " has a gap before it");
    place += tensor.bytes.size();
  }
  const auto rest = data.size() - static_cast<size_t>(place - data.data());
  check(rest == 0, file, ": ", rest, " bytes after the last tensor belong to none");
}

} // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path)
    : path_(std::move(path)), file_(path_) {
  const std::string file = path_.string();
  const auto bytes = file_.bytes();
  const auto text = header_text(bytes, file);
  const auto data = bytes.subspan(kLengthBytes + text.size());
  const Json header = parse_json(text, file);
  check(header.is_object(), file, ": the header must be a JSON object");
  tensors_.reserve(header.size());
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = read_metadata(entry, file);
    } else {
      tensors_.push_back(read_entry(name, entry, data, file));
    }
  }
  check_places(tensors_, data, file);
  by_name_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    by_name_.emplace(tensors_[i].name, i);
  }
}

const std::filesystem::path& SafetensorsFile::path() const {
  return path_;
}

const std::vector<TensorEntry>& SafetensorsFile::tensors() const {
  return tensors_;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return metadata_;
}

std::shared_ptr<void> SafetensorsFile::owner() const {
  return file_.owner();
}

} // namespace moe
