#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moe/checkpoint/decoder_tensors.h"
#include "moe/decoder/decoder_options.h"

namespace moe {

/// What `config.json` holds besides the options of the model.
struct ConfigExtras {
  double load_balancing_weight = 0.0; ///< ours: 1 at perfect balance; written divided by K
  std::string dtype = "float32";      ///< type of the stored weights
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids; ///< ids that end a text
};

/// The texts of a model folder for some options.
struct WrittenConfig {
  std::string family;               ///< the `model_type`
  std::string config;               ///< text of config.json
  std::string generation_config;    ///< text of generation_config.json
  std::vector<std::string> notices; ///< one line each
};

/// What a `config.json` says.
struct ReadConfig {
  std::string family;
  DecoderOptions options;
  ConfigExtras extras;
  std::vector<std::string> notices; ///< one line each: keys that were ignored
};

/// Writes `options` as the first architecture of Hugging Face that expresses them exactly
/// (`qwen3` without experts, `qwen3_moe` with), otherwise as our own `moe_decoder`, with a
/// notice that says which options were the reason.
WrittenConfig write_config(const DecoderOptions& options, const ConfigExtras& extras = {});

/// Reads the text of a `config.json`; `file` names it in errors. A value that is missing, has
/// the wrong type or asks for arithmetic that `DecoderOptions` cannot express is an `Error`
/// that names the key. Options are validated.
ReadConfig read_config(const std::string& text, const std::string& file);

/// A tensor as a file stores it.
using StoredTensor = NamedShape;

/// How a family stores one tensor of ours: as one or more tensors whose elements, one after the
/// other, are ours.
using TensorParts = std::vector<StoredTensor>;

/// One tensor of ours and the ways in which files store it: the first is written, all are read.
struct TensorLayout {
  NamedShape ours;
  std::vector<TensorParts> stored;
};

/// The tensors of a model of this family, in the order of `decoder_tensors`.
std::vector<TensorLayout> tensor_layouts(
    const std::string& family, const DecoderOptions& options);

} // namespace moe
