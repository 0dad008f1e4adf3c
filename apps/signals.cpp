#include "apps/signals.h"

#include <atomic>
#include <csignal>

namespace moe {
namespace {

// A signal handler can reach nothing but what is global.
std::atomic<int> noted_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void set_action(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  // Reads and writes under way go on: the step in progress is to be finished.
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

extern "C" void note_signal(int signal) {
  noted_signal.store(signal);
  set_action(SIG_DFL);
}

} // namespace

void install_stop_signals() {
  noted_signal.store(0);
  set_action(note_signal);
}

void remove_stop_signals() {
  set_action(SIG_DFL);
  noted_signal.store(0);
}

int stop_signal() {
  return noted_signal.load();
}

int signal_exit_code(int signal) {
  return 128 + signal;
}

} // namespace moe
