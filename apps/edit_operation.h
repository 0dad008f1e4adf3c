#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/command_line.h"
#include "apps/status_line.h"
#include "moe/checkpoint/model_folder.h"
#include "moe/editing/edited_model.h"
#include "moe/editing/text_sample.h"

namespace moe {

/// What all operations of moe-edit take.
struct EditArguments {
  std::string in;
  std::string out;
  std::vector<std::string> data;
  int64_t tokens = 16384;
  int64_t seed = 0;
  int64_t threads = 0;
  std::vector<std::string> evaluate;
  int64_t max_tokens = 0;
};

/// Adds the folders; without `one_model` only the one to write.
void add_folders(CommandLine& line, EditArguments& arguments, bool one_model);

/// Adds --data, described by `help`, and --tokens.
void add_data_flags(CommandLine& line, EditArguments& arguments, const std::string& help);

/// Adds --seed, --threads, --evaluate and --max-tokens.
void add_common_flags(CommandLine& line, EditArguments& arguments);

/// Reads the arguments and sets up the process. Throws `Error` where the folder to write is
/// there already.
void parse_edit(CommandLine& line, const EditArguments& arguments, int argc, char** argv);

/// Opens a run's model or a folder; warnings and notices go to `status`.
std::shared_ptr<const ModelFolder> open_model(const std::string& path, StatusLine& status);

/// Samples of the texts `data`, each domain by itself.
std::vector<TextSample> sample_texts(
    const std::vector<std::string>& data,
    const ModelFolder& model,
    const EditArguments& arguments);

/// Writes the result and, if asked, compares its losses with those of `source`. Gives the exit
/// code.
int finish_edit(
    const EditArguments& arguments,
    const EditedModel& edited,
    const ModelFolder& source,
    StatusLine& status);

} // namespace moe
