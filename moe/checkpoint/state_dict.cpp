#include "moe/checkpoint/state_dict.h"

#include <array>
#include <cstring>
#include <utility>

#include "moe/checkpoint/safetensors_folder.h"
#include "moe/error.h"
#include "moe/files/quote_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

struct TypePair {
  ElementType file;
  torch::ScalarType memory;
};

constexpr std::array<TypePair, 19> kTypePairs{{
    {ElementType::boolean, torch::kBool},
    {ElementType::u8, torch::kUInt8},
    {ElementType::i8, torch::kInt8},
    {ElementType::u16, torch::kUInt16},
    {ElementType::i16, torch::kInt16},
    {ElementType::u32, torch::kUInt32},
    {ElementType::i32, torch::kInt32},
    {ElementType::u64, torch::kUInt64},
    {ElementType::i64, torch::kInt64},
    {ElementType::f16, torch::kFloat16},
    {ElementType::bf16, torch::kBFloat16},
    {ElementType::f32, torch::kFloat32},
    {ElementType::f64, torch::kFloat64},
    {ElementType::c64, torch::kComplexFloat},
    {ElementType::f8_e5m2, torch::kFloat8_e5m2},
    {ElementType::f8_e4m3, torch::kFloat8_e4m3fn},
    {ElementType::f8_e4m3fnuz, torch::kFloat8_e4m3fnuz},
    {ElementType::f8_e5m2fnuz, torch::kFloat8_e5m2fnuz},
    {ElementType::f8_e8m0, torch::kFloat8_e8m0fnu},
}};

std::span<const std::byte> bytes_of(const torch::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

torch::ScalarType stored_type(const torch::Tensor& tensor, const SaveOptions& options) {
  return tensor.is_floating_point() ? options.dtype.value_or(tensor.scalar_type())
                                    : tensor.scalar_type();
}

} // namespace

ElementType element_type(torch::ScalarType type) {
  for (const TypePair& pair : kTypePairs) {
    if (pair.memory == type) {
      return pair.file;
    }
  }
  fail("safetensors files have no type for ", torch::toString(type));
}

torch::ScalarType scalar_type(ElementType type) {
  for (const TypePair& pair : kTypePairs) {
    if (pair.file == type) {
      return pair.memory;
    }
  }
  fail("LibTorch has no type for ", element_type_name(type));
}

torch::Tensor view_tensor(const TensorEntry& entry, std::shared_ptr<void> owner) {
  const auto options = torch::TensorOptions(scalar_type(entry.type));
  if (entry.bytes.empty()) {
    return torch::empty(entry.shape, options);
  }
  const auto element_bytes = static_cast<size_t>(element_bits(entry.type)) / 8;
  if (reinterpret_cast<uintptr_t>(entry.bytes.data()) % element_bytes == 0) {
    return torch::from_blob(
        entry.bytes.data(), entry.shape, [owner = std::move(owner)](void*) {}, options);
  }
  auto copy = torch::empty(entry.shape, options);
  std::memcpy(copy.mutable_data_ptr(), entry.bytes.data(), entry.bytes.size());
  return copy;
}

TensorSource tensor_source(
    const std::string& name, torch::Tensor tensor, torch::ScalarType type) {
  check(
      tensor.defined() && tensor.layout() == torch::kStrided && !tensor.is_meta(),
      "tensor ",
      quote(name),
      " has no elements that could be written (undefined, sparse or meta)");
  TensorSource source{name, element_type(type), tensor.sizes().vec(), {}};
  source.write = [tensor = tensor.detach(), type](const ByteSink& sink) {
    const auto plain = tensor.to(torch::kCPU, type).resolve_conj().resolve_neg().contiguous();
    sink(bytes_of(plain));
  };
  return source;
}

StateDict state_dict(const torch::nn::Module& module) {
  StateDict result;
  for (const auto& parameter : module.named_parameters()) {
    result.insert(parameter.key(), parameter.value().detach());
  }
  for (const auto& buffer : module.named_buffers()) {
    result.insert(buffer.key(), buffer.value().detach());
  }
  return result;
}

StateDict read_state_dict(const std::filesystem::path& path) {
  const SafetensorsFolder folder(path);
  StateDict result;
  for (const auto& file : folder.files()) {
    for (const TensorEntry& entry : file->tensors()) {
      try {
        result.insert(entry.name, view_tensor(entry, file->owner()));
      } catch (const Error& error) {
        fail(file->path().string(), ": tensor ", quote(entry.name), ": ", error.what());
      }
    }
  }
  return result;
}

void write_state_dict(
    const StateDict& tensors, const std::filesystem::path& path, const SaveOptions& options) {
  std::vector<TensorSource> sources;
  for (const auto& item : tensors) {
    try {
      sources.push_back(
          tensor_source(item.key(), item.value(), stored_type(item.value(), options)));
    } catch (const Error& error) {
      fail(path.string(), ": ", error.what());
    }
  }
  write_safetensors(path, std::move(sources), options.metadata);
}

} // namespace moe
