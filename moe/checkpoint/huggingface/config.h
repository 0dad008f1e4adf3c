#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moe/decoder/decoder_options.h"
#include "moe/decoder/decoder_tensors.h"

namespace moe {

/// What `config.json` holds besides the options of the model.
struct ConfigExtras {
  double load_balancing_weight = 0.0; ///< ours: 1 at perfect balance; written divided by K
  std::string dtype = "float32";      ///< type of the stored weights
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids; ///< ids that end a text
};

/// What `config.json` says about the weight files, and nothing about the model.
struct FileForm {
  std::string prefix;        ///< of the names of all tensors of the language model
  bool rotary_pairs = false; ///< elements that turn together are stored side by side
  int64_t extra_layers = 0;  ///< layers after the last one that this model does not have
  std::array<int64_t, 2> fp8_block{}; ///< rows and columns per scale of FP8 weights; 0 for none
};

/// The texts of a model folder for some options.
struct WrittenConfig {
  std::string family;               ///< the `model_type`
  FileForm form;                    ///< how the weights are to be stored
  std::string config;               ///< text of config.json
  std::string generation_config;    ///< text of generation_config.json
  std::vector<std::string> notices; ///< one line each
};

/// What a `config.json` says.
struct ReadConfig {
  std::string family;
  FileForm form;
  DecoderOptions options;
  ConfigExtras extras;
  std::vector<std::string> notices; ///< one line each: what was ignored
};

/// Writes `options` as `family`, or as the first architecture of Hugging Face that expresses
/// them exactly if that one does not or is empty (`qwen3` without experts, `qwen3_moe` with,
/// ...), or else as our own `moe_decoder`, with a notice that says which options were the
/// reason.
WrittenConfig write_config(
    const DecoderOptions& options,
    const ConfigExtras& extras = {},
    const std::string& family = "");

/// Reads the text of a `config.json`; `file` names it in errors. A value that is missing, has
/// the wrong type or asks for arithmetic that `DecoderOptions` cannot express is an `Error`
/// that names the key. Options are validated.
ReadConfig read_config(const std::string& text, const std::string& file);

/// The `model_type` of every architecture that is read and written.
std::vector<std::string> known_families();

/// Elements that a stored tensor and one of ours have in common: a view into each, of the same
/// sizes, in elements from the beginning of the tensor.
struct CommonElements {
  std::vector<int64_t> sizes;
  std::vector<int64_t> stored_strides;
  std::vector<int64_t> our_strides;
  int64_t stored_offset = 0;
  int64_t our_offset = 0;
};

/// How the elements of a stored tensor are encoded.
enum class StoredEncoding {
  plain, ///< floating point; FP8 with a scale for each block where the file has that
  mxfp4, ///< two tensors, NAME_blocks and NAME_scales: 32 elements of 4 bits share an exponent
};

/// A tensor as a file stores it.
struct StoredTensor {
  std::string name;
  std::vector<int64_t> shape;
  /// Which elements of ours it holds; empty: those that follow the last tensor's, in order.
  std::vector<CommonElements> elements = {};
  StoredEncoding encoding = StoredEncoding::plain;
};

/// How a family stores one tensor of ours: in one or more tensors.
using TensorParts = std::vector<StoredTensor>;

/// One tensor of ours and the ways in which files store it: the first is written, all are read.
struct TensorLayout {
  NamedShape ours;
  std::vector<TensorParts> stored;
};

/// The tensors of a model of this family, in the order of `decoder_tensors`.
std::vector<TensorLayout> tensor_layouts(
    const std::string& family, const DecoderOptions& options, const FileForm& form = {});

} // namespace moe
