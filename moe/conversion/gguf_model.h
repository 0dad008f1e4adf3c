#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "moe/checkpoint/model_folder.h"
#include "moe/conversion/gguf_file.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// Writes a model folder as one GGUF file that llama.cpp opens, for the families of
/// `gguf_families`. Matrices are stored in `type`; norms and routers, and with q8_0 matrices
/// whose rows are no whole blocks, in float32. Without a `tokenizer` the file has none; with it
/// the folder's chat template and the token that ends a text, too. One tensor of the model is
/// in memory at a time. Returns notices, one line each.
///
/// Throws `Error` that names the architecture, or the options with which llama.cpp's form of it
/// would compute something else.
std::vector<std::string> write_gguf_model(
    const std::filesystem::path& file,
    const ModelFolder& model,
    GgufType type,
    const std::optional<Tokenizer>& tokenizer);

} // namespace moe
