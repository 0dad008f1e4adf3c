#pragma once

#include <string>
#include <vector>

#include "apps/command_line.h"

namespace moe {

/// Keys that a resumed run may change: steps, threads, device, recompute, log_every,
/// checkpoint_every, keep_checkpoints, on_collapse.
std::vector<std::string> resume_changeable_keys();

/// Completes a parsed command line for `--resume`: every option that was not given takes its
/// value from `recorded_path`, the run's `config.toml`. Given ones keep theirs if they are in
/// `changeable`; others must repeat the recorded value.
///
/// Throws `UsageError` naming the flag (or file), its value and the recorded one, and `Error`
/// for a recorded file that cannot be read.
void resume_options(
    CommandLine& line,
    const std::string& recorded_path,
    const std::vector<std::string>& changeable = resume_changeable_keys());

} // namespace moe
