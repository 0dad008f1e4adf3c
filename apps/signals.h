#pragma once

namespace moe {

/// From now on the first SIGINT or SIGTERM is only noted; a second one, of either kind, ends
/// the program at once as without this call.
void install_stop_signals();

/// From now on they end the program as without `install_stop_signals`; none is noted.
void remove_stop_signals();

/// The number of the signal that was noted; 0 for none.
int stop_signal();

/// The exit code after work has been saved because of a signal: 128 + number (130, 143).
int signal_exit_code(int signal);

} // namespace moe
