#include <fmt/format.h>

#include <string>
#include <vector>

#include "apps/edit_operation.h"
#include "apps/exit_code.h"
#include "apps/libtorch_support.h"
#include "moe/editing/collapse.h"
#include "moe/editing/grow.h"
#include "moe/editing/merge.h"
#include "moe/editing/merge_adapter.h"
#include "moe/editing/prune.h"
#include "moe/editing/upcycle.h"

namespace {

using namespace moe;

CommandLine make_line(const std::string& operation, const std::string& description) {
  return CommandLine("moe-edit " + operation, description, libtorch_details);
}

int grow_program(int argc, char** argv) {
  EditArguments arguments;
  GrowOptions options;
  std::vector<std::string> keep;
  auto line = make_line("grow", "Adds experts, to be trained alone on a new text.");
  add_folders(line, arguments, /*one_model=*/true);
  line.add_flag("experts", &options.experts, "New experts per layer.", "Operation");
  line.add_flag(
      "layers",
      &options.layers,
      "Layers that get them; all with experts if not given.",
      "Operation");
  add_data_flags(
      line, arguments, "Text that the new experts are for, as PATH or NAME=PATH; repeatable.");
  line.add_flag(
      "keep",
      &keep,
      "Text that the model knows and must go on with as before; repeatable.",
      "Data");
  add_common_flags(line, arguments);
  line.set_footer(
      "Examples:\n"
      "  moe-edit grow runs/demo grown --experts 2 --data ja=corpus/ja --keep en=corpus/en\n"
      "  moe-train --from grown --only new-experts --data ja=corpus/ja --out runs/ja");
  parse_edit(line, arguments, argc, argv);
  if (arguments.data.empty() && !keep.empty()) {
    throw UsageError("--keep: needs --data, the text that the new experts are for");
  }
  options.seed = arguments.seed;
  StatusLine status;
  const auto model = open_model(arguments.in, status);
  const auto fresh = sample_texts(arguments.data, *model, arguments);
  const auto kept = sample_texts(keep, *model, arguments);
  return finish_edit(arguments, grow(*model, options, fresh, kept), *model, status);
}

int upcycle_program(int argc, char** argv) {
  EditArguments arguments;
  UpcycleOptions options;
  auto line = make_line("upcycle", "Makes a mixture of experts of a dense model.");
  add_folders(line, arguments, /*one_model=*/true);
  line.add_flag("experts", &options.experts, "Experts per layer.", "Operation");
  line.add_flag(
      "experts_per_token", &options.experts_per_token, "Experts per token.", "Operation");
  line.add_flag(
      "parts",
      &options.parts,
      "Cut each network into this many experts instead of copying it whole.",
      "Operation");
  line.add_flag(
      "reinitialize",
      &options.reinitialize,
      "Share of each expert's hidden units to draw anew (drop-upcycling), 0 to 1.",
      "Operation");
  line.add_flag(
      "layers", &options.layers, "Layers that get experts; all if not given.", "Operation");
  add_common_flags(line, arguments);
  line.set_footer(
      "Examples:\n"
      "  moe-edit upcycle runs/dense mixture --experts 8 --experts-per-token 2\n"
      "  moe-edit upcycle runs/dense fine --experts 32 --experts-per-token 8 --parts 4");
  parse_edit(line, arguments, argc, argv);
  options.seed = arguments.seed;
  StatusLine status;
  const auto model = open_model(arguments.in, status);
  return finish_edit(arguments, upcycle(*model, options), *model, status);
}

int prune_program(int argc, char** argv) {
  EditArguments arguments;
  PruneOptions options;
  auto line = make_line("prune", "Removes the experts that matter least to a text.");
  add_folders(line, arguments, /*one_model=*/true);
  line.add_flag("experts", &options.experts, "Experts that remain per layer.", "Operation");
  line.add_flag(
      "share", &options.share, "Share of the experts that remains instead.", "Operation");
  line.add_flag(
      "by",
      &options.by,
      "activation: router weight times norm of the output, in the mean over an expert's "
      "tokens (REAP); load: how many tokens it has.",
      "Operation");
  line.add_flag(
      "layers",
      &options.layers,
      "Layers to prune; all with experts if not given.",
      "Operation");
  add_data_flags(
      line, arguments, "Text that experts must matter to, as PATH or NAME=PATH; repeatable.");
  add_common_flags(line, arguments);
  line.set_footer(
      "Example:\n  moe-edit prune runs/demo smaller --share 0.75 --data en=corpus/en");
  parse_edit(line, arguments, argc, argv);
  if ((options.experts > 0) == line.given("share")) {
    throw UsageError("--experts or --share: one of them says how many remain");
  }
  if (arguments.data.empty()) {
    throw UsageError("--data: no text is given to see which experts matter");
  }
  StatusLine status;
  const auto model = open_model(arguments.in, status);
  const auto texts = sample_texts(arguments.data, *model, arguments);
  return finish_edit(arguments, prune(*model, options, texts), *model, status);
}

int collapse_program(int argc, char** argv) {
  EditArguments arguments;
  CollapseOptions options;
  auto line = make_line("collapse", "Makes a dense model of a mixture of experts.");
  add_folders(line, arguments, /*one_model=*/true);
  line.add_flag(
      "method",
      &options.method,
      "average: the mean of the experts' weights; concatenate: a network with the hidden "
      "units of all.",
      "Operation");
  line.add_flag(
      "weights",
      &options.weights,
      "What each expert counts, as w0,w1,...; as --data weighs them if not given, or equally.",
      "Operation");
  add_data_flags(line, arguments, "Text whose tokens say what each expert counts; repeatable.");
  add_common_flags(line, arguments);
  line.set_footer(
      "Example:\n  moe-edit collapse runs/demo dense --method concatenate --data en=corpus/en");
  parse_edit(line, arguments, argc, argv);
  StatusLine status;
  const auto model = open_model(arguments.in, status);
  const auto texts = sample_texts(arguments.data, *model, arguments);
  return finish_edit(arguments, collapse(*model, options, texts), *model, status);
}

int merge_program(int argc, char** argv) {
  EditArguments arguments;
  MergeOptions options;
  std::vector<std::string> models;
  auto line = make_line("merge", "Makes one mixture of several specialists of equal shape.");
  add_folders(line, arguments, /*one_model=*/false);
  line.add_flag(
      "model", &models, "A run or folder to merge; repeatable, at least two.", "Operation");
  line.add_flag(
      "trunk",
      &options.trunk,
      "What is not an expert: average of the models, or of the first.",
      "Operation");
  line.add_flag(
      "experts_per_token",
      &options.experts_per_token,
      "Experts per token of merged dense models; 0 for 2.",
      "Operation");
  add_data_flags(
      line,
      arguments,
      "A text of each model's domain, in the order of the models; repeatable.");
  add_common_flags(line, arguments);
  line.set_footer(
      "Example:\n"
      "  moe-edit merge mixture --model runs/en --model runs/code --data en=corpus/en --data "
      "code=corpus/code");
  parse_edit(line, arguments, argc, argv);
  if (models.size() < 2) {
    throw UsageError("--model: at least two are merged");
  }
  if (!arguments.data.empty() && arguments.data.size() != models.size()) {
    throw UsageError(fmt::format(
        "--data: {} texts for {} models; one for each, or none",
        arguments.data.size(),
        models.size()));
  }
  options.seed = arguments.seed;
  StatusLine status;
  std::vector<std::shared_ptr<const ModelFolder>> sources;
  for (const auto& model : models) {
    sources.push_back(open_model(model, status));
  }
  std::vector<TextSample> texts;
  for (const auto& data : arguments.data) {
    texts.push_back(sample_texts({data}, *sources.front(), arguments).front());
  }
  return finish_edit(arguments, merge(sources, options, texts), *sources.front(), status);
}

int lora_program(int argc, char** argv) {
  EditArguments arguments;
  std::string adapter;
  auto line = make_line("lora", "Merges a LoRA adapter in PEFT's layout into a model.");
  line.add_positional("in", arguments.in, "A run, or a Hugging Face folder.");
  line.add_positional(
      "adapter", adapter, "A folder with adapter_config.json and adapter_model.safetensors.");
  line.add_positional("out", arguments.out, "The folder to write.");
  add_common_flags(line, arguments);
  line.set_footer("Example:\n  moe-edit lora runs/demo runs/lora/last/adapter merged");
  parse_edit(line, arguments, argc, argv);
  StatusLine status;
  const auto model = open_model(arguments.in, status);
  return finish_edit(arguments, merge_adapter(*model, adapter), *model, status);
}

struct Operation {
  std::string name;
  std::string description;
  int (*run)(int, char**);
};

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = {
      {"grow", "add experts, to be trained alone on a new text", grow_program},
      {"upcycle", "make a mixture of experts of a dense model", upcycle_program},
      {"prune", "remove the experts that matter least to a text", prune_program},
      {"collapse", "make a dense model of a mixture", collapse_program},
      {"merge", "make one mixture of several specialists", merge_program},
      {"lora", "merge a LoRA adapter of PEFT into its model", lora_program}};
  return all;
}

std::string overview() {
  std::string text =
      "Changes the experts of a trained model, from folder to folder.\n"
      "Usage: moe-edit OPERATION ...\n\nOperations:\n";
  for (const auto& operation : operations()) {
    text += fmt::format("  {:<10} {}\n", operation.name, operation.description);
  }
  return text + "\nmoe-edit OPERATION --help describes each.\n";
}

int edit(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  for (const auto& operation : operations()) {
    if (operation.name == first) {
      return operation.run(argc - 1, argv + 1);
    }
  }
  if (first == "--help" || first == "-h") {
    throw EarlyExit{overview()};
  }
  if (first == "--version") {
    CommandLine("moe-edit", "", libtorch_details).parse(argc, argv);
  }
  throw UsageError(
      (first.empty() ? "no operation is given" : "there is no operation '" + first + "'") +
      "; grow, upcycle, prune, collapse, merge or lora; see --help");
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-edit", [&] { return edit(argc, argv); }, moe::describe_libtorch_error);
}
