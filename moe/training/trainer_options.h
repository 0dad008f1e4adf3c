#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// One training run: what it reads, how long and how it learns, what it writes. Recorded in the
/// run's `config.toml`.
///
/// Each field is documented in `visit_fields`, from which the flag, the TOML key and the help
/// text are derived.
struct TrainerOptions {
  std::vector<std::string> data;
  std::vector<std::string> mix;
  std::vector<std::string> val_data;
  std::string tokenizer = "bpe:8192";
  std::string from;
  std::vector<std::string> freeze;
  std::vector<std::string> only;
  int64_t lora_rank = 0;
  double lora_alpha = 0.0;
  std::vector<std::string> lora_targets;
  std::string chat_format;
  bool document_mask = false;

  int64_t steps = 1000;
  int64_t batch_size = 8;
  int64_t sequence_length = 256;
  int64_t accumulation_steps = 1;
  int64_t seed = 0;

  double lr = 1e-3;
  std::string schedule = "cosine";
  int64_t warmup_steps = 50;
  int64_t decay_steps = 0;
  double min_lr_ratio = 0.1;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double max_grad_norm = 1.0;
  std::string on_nonfinite = "stop";
  std::string on_collapse = "warn";

  double router_lr_ratio = 1.0;
  double router_weight_decay_ratio = 1.0;
  double load_balancing_weight = 0.01;
  double global_balancing_weight = 0.0;
  double sequence_balancing_weight = 0.0;
  double pooled_balancing_weight = 0.0;
  double device_balancing_weight = 0.0;
  double communication_balancing_weight = 0.0;
  int64_t balancing_devices = 0;
  double importance_weight = 0.0;
  double router_z_weight = 0.001;
  double selection_bias_rate = 0.001;
  std::string selection_bias_update = "sign";
  bool selection_bias_centered = false;

  std::string device = "cpu";
  std::string dtype = "auto";
  int64_t threads = 0;
  bool recompute = false;

  int64_t eval_every = 100;
  int64_t eval_tokens = 65536;
  int64_t checkpoint_every = 500;
  int64_t keep_checkpoints = 2;
  int64_t log_every = 10;

  /// Calls `visit(name, field, help)` for every field, in the order of the struct.
  template <class Options, class Visitor>
  static void visit_fields(Options& options, Visitor&& visit) {
    visit(
        "data",
        options.data,
        "Training text as PATH or NAME=PATH: a file, a folder or JSONL; repeatable.");
    visit(
        "mix",
        options.mix,
        "Share of a domain in the batches as NAME=WEIGHT; repeatable. By size if not given.");
    visit(
        "val_data",
        options.val_data,
        "Held-out text as PATH or NAME=PATH instead of 5 % of the training text; repeatable.");
    visit(
        "tokenizer",
        options.tokenizer,
        "bytes, chars, bpe:SIZE (trained on the data) or the path of a tokenizer.json.");
    visit(
        "from",
        options.from,
        "Begin with the weights and tokenizer of this run or Hugging Face folder.");
    visit(
        "freeze",
        options.freeze,
        "Part of the model that does not learn: embedding, head, attention, norms, router, "
        "experts, shared_expert or feed_forward; experts=3,5 and router=3,5 for some of them, "
        "new-experts for those that moe-edit grow added; repeatable.");
    visit(
        "only",
        options.only,
        "Parts that learn, named as for freeze; all others do not; repeatable. With "
        "new-experts, balancing losses and biases rest unless they are given.");
    visit(
        "lora_rank",
        options.lora_rank,
        "Learn low-rank changes of this rank to weight matrices instead of the weights; 0 for "
        "none.");
    visit(
        "lora_alpha",
        options.lora_alpha,
        "Low-rank changes count lora_alpha / lora_rank; 0 means twice lora_rank.");
    visit(
        "lora_targets",
        options.lora_targets,
        "Parts whose matrices are changed by lora_rank, named as for freeze; experts if not "
        "given; repeatable.");
    visit(
        "chat_format",
        options.chat_format,
        "How the turns of conversations are written: chatml, llama2, llama3, llama4, mistral "
        "or "
        "harmony; the tokenizer's own if not given.");
    visit("document_mask", options.document_mask, "Keep attention and loss inside documents.");
    visit("steps", options.steps, "Optimizer steps in total, also the length of the schedule.");
    visit("batch_size", options.batch_size, "Sequences per forward pass B.");
    visit("sequence_length", options.sequence_length, "Tokens per sequence S.");
    visit(
        "accumulation_steps", options.accumulation_steps, "Forward passes per optimizer step.");
    visit("seed", options.seed, "Seed of initial weights and data order.");
    visit("lr", options.lr, "Peak learning rate.");
    visit(
        "schedule",
        options.schedule,
        "cosine, linear, constant or wsd (warm-up, stable, decay).");
    visit("warmup_steps", options.warmup_steps, "Steps of linear warm-up from 0.");
    visit(
        "decay_steps",
        options.decay_steps,
        "Steps of the final decay of wsd; 0 means a fifth of the steps.");
    visit("min_lr_ratio", options.min_lr_ratio, "Final learning rate as a share of lr.");
    visit(
        "weight_decay",
        options.weight_decay,
        "Decoupled weight decay; not applied to norms and biases.");
    visit("beta1", options.beta1, "Decay of AdamW's first moment.");
    visit("beta2", options.beta2, "Decay of AdamW's second moment.");
    visit("epsilon", options.epsilon, "Added to AdamW's denominator.");
    visit(
        "max_grad_norm",
        options.max_grad_norm,
        "Gradients are scaled down to this global norm; 0 for never.");
    visit(
        "on_nonfinite",
        options.on_nonfinite,
        "What to do when the loss or its gradient is not finite: stop or skip the step.");
    visit(
        "on_collapse",
        options.on_collapse,
        "What to do when experts die or a router saturates: warn, rebalance (revive dead "
        "experts from the busiest ones) or stop.");
    visit(
        "router_lr_ratio",
        options.router_lr_ratio,
        "Learning rate of the routers as a multiple of lr.");
    visit(
        "router_weight_decay_ratio",
        options.router_weight_decay_ratio,
        "Weight decay of the routers as a multiple of weight_decay.");
    visit(
        "load_balancing_weight",
        options.load_balancing_weight,
        "Weight of the load balancing loss of each layer and forward pass, averaged (1 at "
        "perfect balance).");
    visit(
        "global_balancing_weight",
        options.global_balancing_weight,
        "Weight of the same loss over all forward passes of a step together (1 at perfect "
        "balance); with accumulation_steps above 1, each of them is done once more to count.");
    visit(
        "sequence_balancing_weight",
        options.sequence_balancing_weight,
        "Weight of the same loss within each sequence (1 at perfect balance).");
    visit(
        "pooled_balancing_weight",
        options.pooled_balancing_weight,
        "Weight of the same loss over all layers together, as Hugging Face computes it "
        "(experts_per_token at perfect balance).");
    visit(
        "device_balancing_weight",
        options.device_balancing_weight,
        "Weight of the balance between devices, that is groups of neighbouring experts (1 at "
        "perfect balance).");
    visit(
        "communication_balancing_weight",
        options.communication_balancing_weight,
        "Weight of the balance of the tokens sent to each device (1 at perfect balance).");
    visit(
        "balancing_devices",
        options.balancing_devices,
        "Devices to balance, a divisor of num_experts; 0 means router_groups.");
    visit(
        "importance_weight",
        options.importance_weight,
        "Weight of the squared coefficient of variation of the experts' summed weights (0 at "
        "perfect balance).");
    visit("router_z_weight", options.router_z_weight, "Weight of the router z-loss.");
    visit(
        "selection_bias_rate",
        options.selection_bias_rate,
        "How far each step moves the selection bias of experts towards an even load, in models "
        "with router_selection_bias; 0 keeps it.");
    visit(
        "selection_bias_update",
        options.selection_bias_update,
        "sign moves each bias by the whole rate, proportional by the rate times the distance "
        "from the mean load as a share of it.");
    visit(
        "selection_bias_centered",
        options.selection_bias_centered,
        "Take the mean off each change of the selection bias.");
    visit("device", options.device, "cpu or cuda.");
    visit(
        "dtype",
        options.dtype,
        "Type of computation: float32, bfloat16, or auto for the one that this processor is "
        "faster in; weights and optimizer stay float32.");
    visit("threads", options.threads, "Threads of computation; 0 means one per core.");
    visit(
        "recompute",
        options.recompute,
        "Keep only each block's input for the backward pass and compute the block again: less "
        "memory, the same result.");
    visit(
        "eval_every",
        options.eval_every,
        "Steps between evaluations on held-out text; 0 for only at the end.");
    visit(
        "eval_tokens",
        options.eval_tokens,
        "Held-out tokens per evaluation, over all domains.");
    visit(
        "checkpoint_every",
        options.checkpoint_every,
        "Steps between checkpoints; 0 for only at the end.");
    visit(
        "keep_checkpoints", options.keep_checkpoints, "Checkpoints kept besides the best one.");
    visit(
        "log_every",
        options.log_every,
        "Steps between progress lines where there is no terminal.");
  }

  bool operator==(const TrainerOptions&) const = default;
};

/// Throws `Error` naming the field, its value and the allowed ones.
void validate(const TrainerOptions& options);

} // namespace moe
