#include "moe/training/training_run.h"

#include <ATen/Version.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "moe/checkpoint/companion_files.h"
#include "moe/checkpoint/model_folder.h"
#include "moe/decoder/decoder_tensors.h"
#include "moe/decoder/device.h"
#include "moe/error.h"
#include "moe/evaluation/expert_comparison.h"
#include "moe/files/atomic_file.h"
#include "moe/files/atomic_folder.h"
#include "moe/training/compute_dtype.h"
#include "moe/training/peft_adapter.h"
#include "moe/training/rebalance.h"
#include "moe/training/trainable_rows.h"

namespace moe {
namespace {

/// Sequences per batch of an evaluation.
constexpr int64_t kEvaluationBatch = 8;

DecoderOptions with_vocabulary(DecoderOptions model, const Tokenizer& tokenizer) {
  if (model.vocab_size == 0) {
    model.vocab_size = tokenizer.vocab_size();
  }
  check(
      model.vocab_size >= tokenizer.vocab_size(),
      "vocab_size: ",
      model.vocab_size,
      " is less than the tokenizer's ",
      tokenizer.vocab_size());
  return model;
}

void check_sequence(const DecoderOptions& model, const TrainerOptions& options) {
  check(
      options.sequence_length <= model.context_length,
      "sequence_length: ",
      options.sequence_length,
      " is more than the model's context_length (",
      model.context_length,
      ")");
}

/// Before the text is encoded, which may take long: throws where the model lacks a part that
/// the options name.
void check_trainable(
    const DecoderOptions& model, const TrainerOptions& options, const NewExperts& new_experts) {
  std::vector<ParameterRows> parameters;
  for (const auto& tensor : decoder_tensors(model)) {
    if (!is_buffer(tensor.name)) {
      parameters.push_back({tensor.name, tensor.shape.at(0)});
    }
  }
  trainable_rows(parameters, options.freeze, options.only, new_experts);
}

} // namespace

TrainingRun::TrainingRun(
    const std::filesystem::path& folder,
    const DecoderOptions& model,
    const TrainerOptions& options,
    const std::string& config_text,
    bool resume_run,
    TrainingCallbacks callbacks)
    : folder_(folder),
      options_(options),
      config_text_(config_text),
      callbacks_(std::move(callbacks)),
      threads_(use_threads(options.threads)) {
  validate(options_);
  find_device(options_.device);
  // A run that ended before its first checkpoint goes on at its beginning.
  const bool is_begun = folder_.last().has_value() || !folder_.steps().empty();
  if (resume_run && is_begun) {
    resume();
  } else {
    if (resume_run) {
      callbacks_.log("no checkpoint yet: training from the beginning");
    }
    start(model);
  }
  write_file_atomically(folder_.config(), config_text_);
  metrics_.emplace(folder_.metrics(), trainer_->steps_done());
  // What the monitor knows follows from the steps before.
  monitor_.emplace(trainer_->model()->options.experts_per_token);
  read_metrics(folder_.metrics(), [&](const StepMetrics& metrics) {
    monitor_->update(metrics.step, metrics.moe);
    for (const Revival& revival : metrics.revived) {
      monitor_->restart(revival.layer, revival.experts);
    }
  });
  board_.emplace(folder_.root(), trainer_->steps_done() + 1);
}

void TrainingRun::start(const DecoderOptions& model) {
  callbacks_.log("tokenizer: " + options_.tokenizer);
  tokenizer_ = make_run_tokenizer(options_);
  const auto given = with_vocabulary(model, *tokenizer_);
  validate(given);
  check_sequence(given, options_);
  // As a checkpoint says it, so that the run computes the same after a resume.
  const auto complete = canonical(given);
  const auto from =
      options_.from.empty() ? std::filesystem::path() : find_model_folder(options_.from).folder;
  const auto new_experts = from.empty() ? NewExperts() : read_new_experts(from);
  check_trainable(complete, options_, new_experts);
  const auto data_folder = folder_.root() / "data";
  // Texts may have changed since an earlier run in this folder.
  forget_training_data(data_folder);
  try {
    data_ = prepare_training_data(data_folder, options_, *tokenizer_, callbacks_.log);
    torch::manual_seed(options_.seed);
    DecoderLM new_model(complete);
    if (!from.empty()) {
      const ModelFolder folder(from);
      folder.load_into(*new_model);
      family_ = folder.family();
      origin_ = folder.extras();
      keep_companions(from);
    }
    trainer_.emplace(new_model, training_dataset(data_, options_), options_, new_experts);
    check_has_targets(held_out());
    check_rebalancing();
  } catch (...) {
    // A mistake leaves nothing behind that would have to be overwritten.
    std::error_code ignored;
    std::filesystem::remove_all(data_folder, ignored);
    std::filesystem::remove(folder_.root(), ignored);
    throw;
  }
  folder_.clear();
  folder_.create();
}

void TrainingRun::resume() {
  const auto found = folder_.find_resumable();
  for (const auto& warning : found.warnings) {
    callbacks_.log("warning: " + warning);
  }
  folder_.create();
  const ModelFolder saved(found.folder);
  const auto state = load_training_state(found.folder);
  check(
      options_.steps >= state.step,
      "steps: ",
      options_.steps,
      " is less than the ",
      state.step,
      " that the run has done");
  check_sequence(saved.options(), options_);
  tokenizer_ = Tokenizer::load(found.folder);
  data_ = prepare_training_data(folder_.root() / "data", options_, *tokenizer_, callbacks_.log);
  check(
      data_.fingerprint == state.data_fingerprint,
      "resume: the training text has changed since ",
      found.folder.string(),
      " was saved; start a new run");
  if (!options_.from.empty()) {
    keep_companions(found.folder);
  }
  family_ = saved.family();
  origin_ = saved.extras();
  DecoderLM model(saved.options());
  saved.load_into(*model);
  trainer_.emplace(
      model, training_dataset(data_, options_), options_, read_new_experts(found.folder));
  trainer_->restore(state);
  check_has_targets(held_out());
  check_rebalancing();
  best_loss_ = state.best_validation_loss;
  best_step_ = state.best_step;
  saved_step_ = state.step;
  held_out_experts_ = state.routing;
  note_differences(state);
  callbacks_.log("resuming after step " + std::to_string(state.step));
}

/// Remembers the files beside the weights that say how a model is used: every checkpoint of a
/// model that was not made here has them, too.
void TrainingRun::keep_companions(const std::filesystem::path& model_folder) {
  for (const char* name : kCompanionFiles) {
    std::error_code error;
    if (std::filesystem::is_regular_file(model_folder / name, error)) {
      companions_.emplace_back(name, read_text_file(model_folder / name));
    }
  }
}

void TrainingRun::note_differences(const TrainingState& state) const {
  const auto note = [this](const char* what, const auto& then, const auto& now) {
    if (then != now) {
      std::ostringstream text;
      text << "warning: " << what << " was " << then << " and is " << now
           << "; the run goes on, but not bit for bit as it would have";
      callbacks_.log(text.str());
    }
  };
  note("LibTorch", state.libtorch_version, std::string(TORCH_VERSION));
  note("the number of threads", state.threads, threads_);
  note("the processor's instruction set", state.cpu_capability, at::get_cpu_capability());
  note("the device", state.device, options_.device);
}

bool TrainingRun::train(int64_t stop_after) {
  const int64_t end = std::min(stop_after, options_.steps);
  bool stop = false;
  while (!stop && trainer_->steps_done() < end) {
    auto metrics = trainer_->step();
    after_step(metrics);
    stop = callbacks_.should_stop();
  }
  if (saved_step_ != trainer_->steps_done()) {
    save(/*is_best=*/false);
  }
  return trainer_->steps_done() >= options_.steps;
}

void TrainingRun::after_step(StepMetrics& metrics) {
  const auto due = [&](int64_t every) { return every > 0 && metrics.step % every == 0; };
  const bool is_last = metrics.step == options_.steps;
  bool is_best = false;
  watch_routing(metrics);
  if (is_last || due(options_.eval_every)) {
    try {
      evaluate_held_out(metrics);
    } catch (...) {
      // What was learned is not lost with a measurement of it.
      metrics_->append(metrics);
      save(/*is_best=*/false);
      throw;
    }
    is_best =
        std::isfinite(*metrics.val_loss) && (!best_loss_ || *metrics.val_loss < *best_loss_);
  }
  metrics_->append(metrics);
  board_->append(metrics.step, metrics_scalars(metrics), metrics_bars(metrics));
  callbacks_.on_step(metrics);
  if (is_best) {
    best_loss_ = metrics.val_loss;
    best_step_ = metrics.step;
  }
  if (is_best || is_last || due(options_.checkpoint_every)) {
    save(is_best);
  }
  stop_if_collapsed(metrics);
}

void TrainingRun::check_rebalancing() const {
  const auto model = trainer_->model();
  for (const int64_t layer : moe_layers(model->options)) {
    const auto& block = model->layers->at<DecoderBlockImpl>(static_cast<size_t>(layer)).moe;
    check(
        options_.on_collapse != OnCollapse::rebalance || can_revive(block->router->options),
        "on_collapse: rebalance is not possible with router_gate ",
        enum_name(model->options.router.gate),
        " and router_selection ",
        enum_name(model->options.router.selection),
        "; warn or stop");
  }
}

void TrainingRun::watch_routing(StepMetrics& metrics) {
  auto news = monitor_->update(metrics.step, metrics.moe);
  metrics.collapse = std::move(news.began);
  metrics.recovered = std::move(news.recovered);
  const auto step = "step " + std::to_string(metrics.step) + ": ";
  for (const Collapse& collapse : metrics.collapse) {
    const bool is_handled =
        options_.on_collapse == OnCollapse::rebalance && can_revive(collapse);
    callbacks_.log("warning: " + step + (is_handled ? summary(collapse) : describe(collapse)));
  }
  for (const Collapse& collapse : metrics.recovered) {
    callbacks_.log(step + describe_recovery(collapse));
  }
  if (options_.on_collapse == OnCollapse::rebalance) {
    rebalance(metrics);
  }
}

void TrainingRun::rebalance(StepMetrics& metrics) {
  auto collapses = monitor_->current();
  std::erase_if(collapses, [](const Collapse& collapse) { return !can_revive(collapse); });
  if (collapses.empty()) {
    return;
  }
  const auto texts = held_out();
  metrics.val_loss_before_revival = evaluate(trainer_->model(), texts).total.loss;
  for (const Collapse& collapse : collapses) {
    const auto revival =
        trainer_->revive(collapse.layer, experts_to_revive(collapse, metrics.moe));
    monitor_->restart(revival.layer, revival.experts);
    callbacks_.log("step " + std::to_string(metrics.step) + ": " + describe(revival));
    metrics.revived.push_back(revival);
  }
  metrics.val_loss_after_revival = evaluate(trainer_->model(), texts).total.loss;
  std::ostringstream text;
  text << "step " << metrics.step << ": reviving took the held-out loss from "
       << *metrics.val_loss_before_revival << " to " << *metrics.val_loss_after_revival;
  callbacks_.log(text.str());
}

void TrainingRun::stop_if_collapsed(const StepMetrics& metrics) {
  if (options_.on_collapse != OnCollapse::stop || metrics.collapse.empty()) {
    return;
  }
  if (saved_step_ != metrics.step) {
    save(/*is_best=*/false);
  }
  fail(
      "step ",
      metrics.step,
      ": ",
      describe(metrics.collapse.front()),
      "; saved in ",
      folder_.root().string());
}

void TrainingRun::evaluate_held_out(StepMetrics& metrics) {
  evaluation_ = evaluate(trainer_->model(), held_out());
  metrics.val_loss = evaluation_->total.loss;
  StateDict experts;
  for (size_t i = 0; i < metrics.moe.size(); ++i) {
    const auto name = "experts/" + std::to_string(metrics.moe[i].layer);
    metrics.moe[i].similarity = evaluation_->routing[i].similarity;
    const auto& now = evaluation_->experts[i];
    const auto* before = held_out_experts_.find(name);
    if (before != nullptr && before->sizes() == now.sizes()) {
      metrics.moe[i].churn = expert_churn(*before, now);
    }
    experts.insert(name, now);
  }
  held_out_experts_ = experts;
}

std::vector<EvaluationDomain> TrainingRun::held_out() const {
  const auto count = static_cast<int64_t>(data_.domains.size());
  const int64_t tokens_per_domain = std::max<int64_t>(1, options_.eval_tokens / count);
  std::vector<EvaluationDomain> domains;
  for (int64_t i = 0; i < count; ++i) {
    const auto& domain = data_.domains[i];
    domains.push_back(
        {domain.name,
         EvaluationWindows(
             domain.held_out,
             i,
             kEvaluationBatch,
             options_.sequence_length,
             tokens_per_domain,
             options_.document_mask,
             domain.held_out_replies)});
  }
  return domains;
}

void TrainingRun::save(bool is_best) {
  const int64_t step = trainer_->steps_done();
  const auto model = trainer_->model();
  ModelExtras extras;
  extras.family = family_;
  extras.tokenizer_json = tokenizer_->to_json();
  if (tokenizer_->end_of_text()) {
    extras.eos_token_ids = {*tokenizer_->end_of_text()};
    extras.end_of_text = tokenizer_->token_bytes(*tokenizer_->end_of_text());
  }
  if (!options_.from.empty()) {
    extras.bos_token_id = origin_.bos_token_id;
    extras.eos_token_ids = origin_.eos_token_ids;
  }
  extras.load_balancing_weight = options_.load_balancing_weight;
  auto state = trainer_->state();
  state.seed = options_.seed;
  state.best_validation_loss = best_loss_;
  state.best_step = best_step_;
  state.options = config_text_;
  state.data_fingerprint = data_.fingerprint;
  state.libtorch_version = TORCH_VERSION;
  state.dtype = resolve_dtype(options_.dtype, options_.device);
  state.device = options_.device;
  state.cpu_capability = at::get_cpu_capability();
  state.threads = threads_;
  state.routing = held_out_experts_;
  AtomicFolder checkpoint(folder_.checkpoint(step));
  for (const auto& notice :
       write_model_files(checkpoint.path(), model->options, state_dict(*model), extras)) {
    if (saved_step_ < 0) {
      callbacks_.log("note: " + notice);
    }
  }
  for (const auto& [name, text] : companions_) {
    write_file_atomically(checkpoint.path() / name, text);
  }
  if (const auto& lora = trainer_->lora()) {
    const auto obstacle = write_peft_adapter(
        checkpoint.path() / "adapter", *lora, model->options, family_, options_.from);
    if (!obstacle.empty() && saved_step_ < 0) {
      callbacks_.log("note: there is no adapter folder for PEFT: " + obstacle);
    }
  }
  save_training_state(checkpoint.path(), state);
  checkpoint.commit();
  folder_.set_last(step);
  if (is_best) {
    folder_.set_best(step);
  }
  folder_.prune(options_.keep_checkpoints);
  saved_step_ = step;
}

} // namespace moe
