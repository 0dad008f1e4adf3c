#include "moe/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/json_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

int64_t bytes_of(const TensorSource& tensor, const std::string& file) {
  const auto bytes = tensor_bytes(tensor.type, tensor.shape);
  check(
      bytes.has_value(),
      file,
      ": tensor ",
      quote(tensor.name),
      " has the impossible shape ",
      shape_text(tensor.shape));
  return *bytes;
}

void sort_and_check_names(std::vector<TensorSource>& tensors, const std::string& file) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSource& a, const TensorSource& b) {
    return a.name < b.name;
  });
  for (size_t i = 0; i < tensors.size(); ++i) {
    check(tensors[i].name != "__metadata__", file, ": '__metadata__' cannot name a tensor");
    check(
        i == 0 || tensors[i].name != tensors[i - 1].name,
        file,
        ": two tensors are named ",
        quote(tensors[i].name));
  }
  std::stable_sort(
      tensors.begin(), tensors.end(), [](const TensorSource& a, const TensorSource& b) {
        return element_bits(a.type) > element_bits(b.type);
      });
}

std::string json_string(const std::string& text, const std::string& file) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    fail(file, ": ", quote(text), " is not UTF-8, as names and metadata must be");
  }
}

std::string header_text(
    const std::vector<TensorSource>& tensors,
    const std::map<std::string, std::string>& metadata,
    const std::string& file) {
  // Assembled by hand: the order of the keys is the order of the data.
  std::string text = "{";
  for (const auto& [key, value] : metadata) {
    text += text.size() > 1 ? "," : "\"__metadata__\":{";
    text += json_string(key, file) + ":" + json_string(value, file);
  }
  text += metadata.empty() ? "" : "}";
  int64_t offset = 0;
  for (const TensorSource& tensor : tensors) {
    const int64_t end = offset + bytes_of(tensor, file);
    const Json entry = {
        {"dtype", element_type_name(tensor.type)},
        {"shape", tensor.shape},
        {"data_offsets", {offset, end}}};
    text += text.size() > 1 ? "," : "";
    text += json_string(tensor.name, file) + ":" + entry.dump();
    offset = end;
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

std::string shard_name(size_t number, size_t count) {
  std::string name(64, '\0');
  name.resize(static_cast<size_t>(std::snprintf(
      name.data(), name.size(), "model-%05zu-of-%05zu.safetensors", number, count)));
  return name;
}

} // namespace

TensorSource tensor_source(
    std::string name,
    ElementType type,
    std::vector<int64_t> shape,
    std::span<const std::byte> bytes) {
  return {
      std::move(name), type, std::move(shape), [bytes](const ByteSink& sink) { sink(bytes); }};
}

void write_safetensors(
    const std::filesystem::path& path,
    std::vector<TensorSource> tensors,
    const std::map<std::string, std::string>& metadata) {
  const std::string name = path.string();
  sort_and_check_names(tensors, name);
  const std::string header = header_text(tensors, metadata, name);
  std::string length(8, '\0');
  for (size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  }
  AtomicFile file(path);
  file.write(length);
  file.write(header);
  for (const TensorSource& tensor : tensors) {
    int64_t written = 0;
    tensor.write([&](std::span<const std::byte> bytes) {
      written += static_cast<int64_t>(bytes.size());
      file.write(bytes);
    });
    check(
        written == bytes_of(tensor, name),
        name,
        ": tensor ",
        quote(tensor.name),
        " gave ",
        written,
        " bytes instead of ",
        bytes_of(tensor, name));
  }
  file.commit();
}

void write_safetensors_folder(
    const std::filesystem::path& folder,
    std::vector<TensorSource> tensors,
    const std::map<std::string, std::string>& metadata,
    int64_t max_shard_bytes) {
  const std::string name = folder.string();
  std::vector<std::vector<TensorSource>> shards(1);
  int64_t total = 0;
  int64_t shard_bytes = 0;
  for (TensorSource& tensor : tensors) {
    const int64_t bytes = bytes_of(tensor, name);
    if (max_shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes &&
        !shards.back().empty()) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += bytes;
    total += bytes;
    shards.back().push_back(std::move(tensor));
  }
  if (shards.size() == 1) {
    write_safetensors(folder / "model.safetensors", std::move(shards[0]), metadata);
    return;
  }
  std::map<std::string, std::string> file_by_tensor;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = shard_name(i + 1, shards.size());
    for (const TensorSource& tensor : shards[i]) {
      check(
          file_by_tensor.emplace(tensor.name, file).second,
          name,
          ": two tensors are named ",
          quote(tensor.name));
    }
    write_safetensors(folder / file, std::move(shards[i]), metadata);
  }
  OrderedJson index;
  index["metadata"] = {{"total_size", total}};
  index["weight_map"] = file_by_tensor;
  write_file_atomically(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

} // namespace moe
