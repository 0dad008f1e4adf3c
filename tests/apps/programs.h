#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

/// The programs as a user runs them, on a model of 0.05M parameters and the texts in
/// fixtures/text.
namespace moe::testing {

using Arguments = std::vector<std::string>;

/// `NAME` and the arguments, for run_program.
std::vector<std::string> command(const std::string& program, const Arguments& arguments);

ProgramResult run(
    const std::string& program,
    const Arguments& arguments,
    const ProgramSettings& settings = {});

/// The flags of a run of ten steps, `changes` behind them: a flag given twice counts as its
/// last.
Arguments training_flags(const std::filesystem::path& out, const Arguments& changes = {});

/// Trains into `out` with these flags; requires that it works.
ProgramResult train(const std::filesystem::path& out, const Arguments& changes = {});

/// Goes on with the run in `out`; requires that it works.
ProgramResult resume(const std::filesystem::path& out, const Arguments& flags = {});

/// NAME=PATH of the committed texts, "en" and "de".
std::string text_source(const std::string& domain);

std::string read_bytes(const std::filesystem::path& path);

/// The lines of a metrics.jsonl, parsed.
std::vector<nlohmann::json> metrics_of(const std::filesystem::path& run);

/// Step, losses, learning rate, norm and routing of each line as text: all but the speed.
std::string repeatable_metrics(const std::filesystem::path& run);

/// Everything that a resumed run must have in common with an uninterrupted one.
void check_same_run(const std::filesystem::path& actual, const std::filesystem::path& expected);

/// The step that the link `last` of a run names; -1 without it.
int64_t last_step(const std::filesystem::path& run);

/// Names of files and folders in `folder`, sorted.
std::vector<std::string> names_in(const std::filesystem::path& folder);

/// Temporary files and folders anywhere in a run.
std::vector<std::string> temporaries_in(const std::filesystem::path& run);

/// Waits until a run has written `count` lines of metrics, or the program has ended.
void wait_for_steps(RunningProgram& program, const std::filesystem::path& run, int64_t count);

/// Requires one line on stderr, "PROGRAM: error: ...", nothing on stdout, and the exit code.
/// Gives the line.
std::string error_of(
    const std::string& program,
    const Arguments& arguments,
    int exit_code,
    const ProgramSettings& settings = {});

/// The last line of a text; it must be "PROGRAM: error: ...", and the only one of its kind.
std::string last_error_line(const std::string& program, const std::string& err);

} // namespace moe::testing
