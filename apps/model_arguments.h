#pragma once

#include <string>

#include "apps/command_line.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/decoder/decoder_lm.h"

namespace moe {

/// Which model a program uses, and how it computes.
struct ModelArguments {
  std::string folder;
  std::string checkpoint;
  std::string device = "cpu";
  int64_t threads = 0;
};

/// Adds the argument MODEL and the flags --checkpoint, --device and --threads.
void add_model_arguments(CommandLine& line, ModelArguments& arguments);

/// A model with its tokenizer, ready to compute.
struct LoadedModel {
  DecoderLM model;
  Tokenizer tokenizer;
};

/// Loads a run's best (or chosen) checkpoint or any model folder. Notices go to stderr.
LoadedModel load_model(const ModelArguments& arguments);

} // namespace moe
