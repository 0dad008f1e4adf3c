#pragma once

namespace moe {

/// Settings for a program that computes with tensors, at its start: large blocks of freed
/// memory are kept for the next step instead of going back to the system, and very small
/// numbers count as zero. Results do not depend on the former; the latter is the same in every
/// program.
void prepare_process();

} // namespace moe
