#include "moe/checkpoint/tensor_parts.h"

#include "moe/checkpoint/mxfp4.h"
#include "moe/checkpoint/state_dict.h"
#include "moe/files/mapped_file.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

// Where the elements of parts that say nothing else begin in ours.
std::vector<int64_t> running_offsets(const TensorParts& parts) {
  std::vector<int64_t> offsets;
  int64_t offset = 0;
  for (const StoredTensor& part : parts) {
    offsets.push_back(offset);
    offset += part.elements.empty() ? c10::multiply_integers(part.shape) : 0;
  }
  return offsets;
}

// Calls body(view into the stored tensor, view into ours) for all that both have. Both are
// contiguous.
template <class Body>
void for_common_elements(
    const StoredTensor& part,
    int64_t offset,
    const torch::Tensor& stored,
    const torch::Tensor& ours,
    const Body& body) {
  if (part.elements.empty()) {
    body(stored.view(-1), ours.view(-1).narrow(/*dim=*/0, offset, stored.numel()));
    return;
  }
  for (const CommonElements& common : part.elements) {
    body(
        stored.as_strided(
            common.sizes,
            common.stored_strides,
            stored.storage_offset() + common.stored_offset),
        ours.as_strided(
            common.sizes, common.our_strides, ours.storage_offset() + common.our_offset));
  }
}

torch::Tensor open_tensor(const SafetensorsFolder& weights, const std::string& name) {
  return view_tensor(*weights.find(name), weights.file_of(name)->owner());
}

torch::Tensor expand_mxfp4(const SafetensorsFolder& weights, const StoredTensor& part) {
  auto values = torch::empty(part.shape, torch::kFloat32);
  decode_mxfp4(
      weights.find(mxfp4_blocks(part.name))->bytes,
      weights.find(mxfp4_scales(part.name))->bytes,
      {values.mutable_data_ptr<float>(), static_cast<size_t>(values.numel())});
  return values;
}

// Every value times the scale of its block; blocks at the edges are cut off.
torch::Tensor expand_fp8(const ModelFiles& files, const StoredTensor& part) {
  const auto& block = files.config().form.fp8_block;
  auto values = open_tensor(files.weights(), part.name).to(torch::kFloat32);
  const auto scales = open_tensor(files.weights(), fp8_scale(part.name));
  const auto by_row = scales.repeat_interleave(block[0], /*dim=*/0).slice(0, 0, part.shape[0]);
  for (int64_t column = 0; column < scales.size(1); ++column) {
    const int64_t begin = column * block[1];
    const int64_t end = std::min(begin + block[1], part.shape[1]);
    values.slice(/*dim=*/1, begin, end).mul_(by_row.slice(/*dim=*/1, column, column + 1));
  }
  return values;
}

bool is_fp8(const ModelFiles& files, const StoredTensor& part) {
  return files.weights().find(part.name)->type == ElementType::f8_e4m3;
}

torch::Tensor open_part(const ModelFiles& files, const StoredTensor& part) {
  if (part.encoding == StoredEncoding::mxfp4) {
    return expand_mxfp4(files.weights(), part);
  }
  return is_fp8(files, part) ? expand_fp8(files, part)
                             : open_tensor(files.weights(), part.name);
}

// What was copied need not stay in memory a second time.
void release_part(const SafetensorsFolder& weights, const StoredTensor& part) {
  const bool blocks = part.encoding == StoredEncoding::mxfp4;
  release_pages(weights.find(blocks ? mxfp4_blocks(part.name) : part.name)->bytes);
}

torch::Tensor fill_part(const StoredTensor& part, int64_t offset, const torch::Tensor& flat) {
  const torch::NoGradGuard no_grad;
  auto stored = torch::empty(part.shape, flat.options());
  for_common_elements(
      part, offset, stored, flat, [](auto to, const auto& from) { to.copy_(from); });
  return stored;
}

} // namespace

torch::Tensor stored_part(const TensorParts& parts, size_t part, const torch::Tensor& ours) {
  return fill_part(parts.at(part), running_offsets(parts)[part], ours.detach().contiguous());
}

std::vector<TensorSource> part_sources(
    const TensorParts& parts,
    const std::function<torch::Tensor()>& ours,
    torch::ScalarType type) {
  const auto offsets = running_offsets(parts);
  std::vector<TensorSource> sources;
  for (size_t i = 0; i < parts.size(); ++i) {
    TensorSource source{parts[i].name, element_type(type), parts[i].shape, {}};
    source.write = [part = parts[i], offset = offsets[i], ours, type](const ByteSink& sink) {
      const auto stored = fill_part(part, offset, ours().detach().contiguous());
      tensor_source(part.name, stored, type).write(sink);
    };
    sources.push_back(std::move(source));
  }
  return sources;
}

void add_part(
    const TensorParts& parts,
    size_t part,
    const torch::Tensor& stored,
    const torch::Tensor& ours) {
  const torch::NoGradGuard no_grad;
  for_common_elements(
      parts.at(part),
      running_offsets(parts)[part],
      stored,
      ours,
      [](const auto& from, auto to) { to.add_(from); });
}

void copy_parts(const ModelFiles& files, const TensorParts& parts, const torch::Tensor& ours) {
  const torch::NoGradGuard no_grad;
  const auto offsets = running_offsets(parts);
  auto whole =
      ours.is_contiguous() ? ours : torch::empty_like(ours, torch::MemoryFormat::Contiguous);
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto stored = open_part(files, parts[i]).contiguous();
    for_common_elements(
        parts[i], offsets[i], stored, whole, [](const auto& from, auto to) { to.copy_(from); });
    release_part(files.weights(), parts[i]);
  }
  if (!ours.is_contiguous()) {
    ours.copy_(whole);
  }
}

torch::ScalarType parts_type(const ModelFiles& files, const TensorParts& parts) {
  std::optional<torch::ScalarType> widest;
  for (const StoredTensor& part : parts) {
    const auto type = part.encoding == StoredEncoding::mxfp4 ? torch::kBFloat16
                      : is_fp8(files, part)
                          ? torch::kFloat32
                          : scalar_type(files.weights().find(part.name)->type);
    widest = widest ? torch::promoteTypes(*widest, type) : type;
  }
  return widest.value_or(torch::kFloat32);
}

} // namespace moe
