#pragma once

#include <filesystem>
#include <string>

#include "moe/decoder/decoder_options.h"
#include "moe/training/lora.h"

namespace moe {

/// Writes adapters as PEFT reads them, for the model that `base_model` names, which is stored
/// in `family` (see `write_config`): adapter_config.json and adapter_model.safetensors in
/// `folder`, which is made.
/// Matrices that Hugging Face's modules hold as parameters, as those of experts and routers,
/// become `target_parameters`, the others `target_modules`.
///
/// Returns why nothing was written, where the family's matrices are not ours in the same or
/// another order of rows; else an empty text.
///
/// Example (Python): `peft.PeftModel.from_pretrained(base_model, folder)`
std::string write_peft_adapter(
    const std::filesystem::path& folder,
    const LoraAdapters& adapters,
    const DecoderOptions& options,
    const std::string& family,
    const std::string& base_model);

} // namespace moe
