#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <vector>

namespace moe {

/// The experts that were added to a trained model, ascending, by layer.
using NewExperts = std::map<int64_t, std::vector<int64_t>>;

/// Writes them as `new_experts.json` into a model folder.
void write_new_experts(const std::filesystem::path& folder, const NewExperts& experts);

/// Reads `new_experts.json`; none if there is no such file. Throws `Error` naming the file and
/// the fault.
NewExperts read_new_experts(const std::filesystem::path& folder);

} // namespace moe
