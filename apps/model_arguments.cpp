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

LoadedModel load_model(const ModelArguments& arguments) {
  if (arguments.folder.empty()) {
    throw UsageError("no model is given: the folder of a run or of a Hugging Face model");
  }
  prepare_process();
  use_threads(arguments.threads);
  const auto device = find_device(arguments.device);
  const auto found = find_model_folder(arguments.folder, arguments.checkpoint);
  const ModelFolder folder(found.folder);
  StatusLine status;
  for (const auto& warning : found.warnings) {
    status.log("warning: {}", warning);
  }
  for (const auto& notice : folder.notices()) {
    status.log("note: {}", notice);
  }
  DecoderLM model(folder.options());
  folder.load_into(*model);
  model->to(device);
  model->eval();
  return {model, found.folder, end_of_text_ids(found.folder, folder.extras())};
}

} // namespace moe
