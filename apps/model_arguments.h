#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/command_line.h"
#include "moe/checkpoint/model_folder.h"
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

/// A model on the disk.
struct OpenedModel {
  ModelFolder folder;
  std::vector<int32_t> end_of_text; ///< what its configuration says that ends a text
};

/// Opens a run's best (or chosen) checkpoint or any model folder. Notices go to stderr.
OpenedModel open_model_folder(const ModelArguments& arguments);

/// Reads its weights, ready to compute on `device`.
DecoderLM read_model(const ModelFolder& folder, const std::string& device);

/// A model, ready to compute, and the folder that it comes from.
struct LoadedModel {
  DecoderLM model;
  std::filesystem::path folder;
  std::vector<int32_t> end_of_text; ///< what its configuration says that ends a text
};

/// Reads the weights of an opened model, ready to compute on `device`.
LoadedModel load_model(OpenedModel opened, const std::string& device);

/// Opens a model and reads its weights.
LoadedModel load_model(const ModelArguments& arguments);

} // namespace moe
