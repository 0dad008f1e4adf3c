#include "tests/support/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace moe::testing {
namespace {

double now() {
  const std::chrono::duration<double> time =
      std::chrono::steady_clock::now().time_since_epoch();
  return time.count();
}

/// The two ends of a new pipe: to read, to write.
std::array<int, 2> new_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw std::runtime_error("a pipe cannot be made");
  }
  return ends;
}

void close_descriptor(int& descriptor) {
  if (descriptor >= 0) {
    ::close(descriptor);
    descriptor = -1;
  }
}

[[noreturn]] void become(
    const std::vector<std::string>& command,
    const ProgramSettings& settings,
    const std::array<int, 3>& descriptors) {
  for (int i = 0; i < 3; ++i) {
    ::dup2(descriptors[static_cast<size_t>(i)], i);
  }
  for (const auto& [name, value] : settings.environment) {
    ::setenv(name.c_str(), value.c_str(), /*overwrite=*/1);
  }
  if (settings.largest_file) {
    const rlimit limit{*settings.largest_file, *settings.largest_file};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  std::vector<char*> arguments;
  for (const auto& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  ::execv(arguments.front(), arguments.data());
  ::_exit(127);
}

} // namespace

RunningProgram::RunningProgram(
    const std::vector<std::string>& command, const ProgramSettings& settings)
    : input_(settings.input), deadline_(now() + settings.seconds) {
  // A program that does not read its input is not the test's end.
  std::signal(SIGPIPE, SIG_IGN);
  const auto input = new_pipe();
  const auto out = new_pipe();
  const auto err = new_pipe();
  process_ = ::fork();
  if (process_ < 0) {
    throw std::runtime_error("a process cannot be made");
  }
  if (process_ == 0) {
    std::signal(SIGPIPE, SIG_DFL);
    become(command, settings, {input[0], out[1], err[1]});
  }
  ::close(input[0]);
  ::close(out[1]);
  ::close(err[1]);
  input_descriptor_ = input[1];
  ::fcntl(input_descriptor_, F_SETFL, O_NONBLOCK);
  out_ = {out[0], &result_.out};
  err_ = {err[0], &result_.err};
  feed();
}

RunningProgram::~RunningProgram() {
  if (!ended_) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  close_all();
}

void RunningProgram::send(int signal) const {
  if (!ended_) {
    ::kill(process_, signal);
  }
}

void RunningProgram::feed() {
  while (!input_.empty()) {
    const ssize_t written = ::write(input_descriptor_, input_.data(), input_.size());
    if (written < 0) {
      if (errno == EAGAIN) {
        return;
      }
      break;
    }
    input_.erase(0, static_cast<size_t>(written));
  }
  close_descriptor(input_descriptor_);
}

void RunningProgram::drain(Pipe& pipe) {
  std::array<char, 4096> bytes;
  const ssize_t count = ::read(pipe.descriptor, bytes.data(), bytes.size());
  if (count > 0) {
    pipe.text->append(bytes.data(), static_cast<size_t>(count));
  } else if (count == 0 || errno != EINTR) {
    close_descriptor(pipe.descriptor);
  }
}

void RunningProgram::transfer(int milliseconds) {
  // poll leaves out what has a negative descriptor.
  std::array<pollfd, 3> polled = {
      pollfd{out_.descriptor, POLLIN, 0},
      pollfd{err_.descriptor, POLLIN, 0},
      pollfd{input_descriptor_, POLLOUT, 0}};
  ::poll(polled.data(), polled.size(), milliseconds);
  if (polled[0].revents != 0) {
    drain(out_);
  }
  if (polled[1].revents != 0) {
    drain(err_);
  }
  if (polled[2].revents != 0) {
    feed();
  }
}

bool RunningProgram::past_deadline() const {
  return now() > deadline_;
}

bool RunningProgram::running() {
  if (ended_) {
    return false;
  }
  int status = 0;
  if (::waitpid(process_, &status, WNOHANG) == 0) {
    return true;
  }
  ended_ = true;
  result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return false;
}

bool RunningProgram::wait_for_error_text(const std::string& text) {
  while (result_.err.find(text) == std::string::npos) {
    if (err_.descriptor < 0 || past_deadline()) {
      return false;
    }
    transfer(100);
  }
  return true;
}

ProgramResult RunningProgram::wait() {
  while (out_.descriptor >= 0 || err_.descriptor >= 0) {
    if (past_deadline() && !result_.timed_out) {
      result_.timed_out = true;
      send(SIGKILL);
    }
    transfer(100);
  }
  while (running()) {
    ::usleep(1000);
  }
  close_all();
  return result_;
}

void RunningProgram::close_all() {
  close_descriptor(input_descriptor_);
  close_descriptor(out_.descriptor);
  close_descriptor(err_.descriptor);
}

ProgramResult run_program(
    const std::vector<std::string>& command, const ProgramSettings& settings) {
  return RunningProgram(command, settings).wait();
}

} // namespace moe::testing
