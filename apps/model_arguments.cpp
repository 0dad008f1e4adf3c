#include "apps/model_arguments.h"

#include "apps/exit_code.h"
#include "apps/process.h"
#include "apps/status_line.h"
#include "moe/checkpoint/generation_config.h"
#include "moe/checkpoint/model_folder.h"
#include "moe/checkpoint/run_folder.h"
#include "moe/decoder/device.h"

namespace moe {

void add_model_arguments(CommandLine& line, ModelArguments& arguments) {
  line.add_positional("model", arguments.folder, "A run, or a Hugging Face folder.");
  line.add_flag(
      "checkpoint",
      &arguments.checkpoint,
      "Which checkpoint of a run: best, last or a step. The best if there is one.",
      "Model");
  line.add_flag("device", &arguments.device, "cpu or cuda.", "Model");
  line.add_flag(
      "threads", &arguments.threads, "Threads of computation; 0 means one per core.", "Model");
}

OpenedModel open_model_folder(const ModelArguments& arguments) {
  if (arguments.folder.empty()) {
    throw UsageError("no model is given: the folder of a run or of a Hugging Face model");
  }
  prepare_process();
  use_threads(arguments.threads);
  find_device(arguments.device); // a mistake is told before a long time of reading
  const auto found = find_model_folder(arguments.folder, arguments.checkpoint);
  ModelFolder folder(found.folder);
  StatusLine status;
  for (const auto& warning : found.warnings) {
    status.log("warning: {}", warning);
  }
  for (const auto& notice : folder.notices()) {
    status.log("note: {}", notice);
  }
  auto end = read_end_of_text(found.folder, folder.extras(), folder.options().vocab_size);
  for (const auto& notice : end.notices) {
    status.log("note: {}", notice);
  }
  return {std::move(folder), std::move(end.ids)};
}

DecoderLM read_model(const ModelFolder& folder, const std::string& device) {
  DecoderLM model(folder.options());
  folder.load_into(*model);
  model->to(find_device(device));
  model->eval();
  return model;
}

LoadedModel load_model(OpenedModel opened, const std::string& device) {
  return {
      read_model(opened.folder, device), opened.folder.path(), std::move(opened.end_of_text)};
}

LoadedModel load_model(const ModelArguments& arguments) {
  return load_model(open_model_folder(arguments), arguments.device);
}

} // namespace moe
