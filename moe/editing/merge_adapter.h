#pragma once

#include <filesystem>

#include "moe/editing/edited_model.h"

namespace moe {

/// Merges a LoRA adapter in PEFT's layout into a model: `adapter_config.json` and
/// `adapter_model.safetensors` in `adapter`. Each matrix that has an A and a B becomes
///
///     W + alpha / rank · B · A
///
/// or with alpha / sqrt(rank) (`use_rslora`), as PEFT's `merge_and_unload` computes it, but in
/// float32 and rounded once to the type of W. Adapters of `Linear` modules (attention, dense
/// networks, routers, experts one by one) and of stacked experts (`target_parameters`) go to
/// the tensors of these names in any layout in which the model's architecture is stored,
/// whichever the folder has.
///
/// Throws `Error` for adapters of anything else, for tensors that do not fit the model, and for
/// what else changes a model: DoRA, biases, `modules_to_save`, embeddings, beginnings that took
/// something from the weights (`read_peft_lora_config`).
///
/// Example:
/// ```
/// ModelFolder base("base");
/// save_edited_model("merged", merge_adapter(base, "adapter"), base);
/// ```
EditedModel merge_adapter(const ModelFolder& source, const std::filesystem::path& adapter);

} // namespace moe
