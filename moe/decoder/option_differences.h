#pragma once

#include <string>
#include <vector>

#include "moe/decoder/decoder_options.h"

namespace moe {

/// The options in which two models differ, as "name (value in `options`)"; none if they are the
/// same model. Numbers count as equal if their first 12 digits are.
std::vector<std::string> option_differences(
    const DecoderOptions& options, const DecoderOptions& other);

} // namespace moe
