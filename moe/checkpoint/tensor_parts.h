#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/model_files.h"
#include "moe/checkpoint/safetensors_writer.h"

namespace moe {

/// Cuts a tensor of ours into the tensors that a file stores: [part] in the order of `parts`,
/// each in its own memory. The parts of a gradient are the gradients of the parts.
torch::Tensor stored_part(const TensorParts& parts, size_t part, const torch::Tensor& ours);

/// The same as tensors to be written as `type`; each asks for ours when its turn comes.
std::vector<TensorSource> part_sources(
    const TensorParts& parts,
    const std::function<torch::Tensor()>& ours,
    torch::ScalarType type);

/// Adds what has the shape of a stored tensor to the elements of ours that it holds. Both are
/// contiguous.
void add_part(
    const TensorParts& parts,
    size_t part,
    const torch::Tensor& stored,
    const torch::Tensor& ours);

/// Puts a tensor of ours together from its parts in the weight files, converted to its type.
/// 4-bit blocks and FP8 are expanded, one part at a time.
void copy_parts(const ModelFiles& files, const TensorParts& parts, const torch::Tensor& ours);

/// The type that holds all parts: that of the widest, bfloat16 for 4-bit blocks (which it holds
/// exactly) and float32 for FP8 with scales.
torch::ScalarType parts_type(const ModelFiles& files, const TensorParts& parts);

} // namespace moe
