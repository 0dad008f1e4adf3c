#include "moe/training/trainer_options.h"

namespace moe {
namespace {

OptionTable<TrainerOptions> trainer_rows() {
  using Options = TrainerOptions;
  using enum OptionRange;
  return {
      option(
          "data",
          &Options::data,
          "Training text as PATH or NAME=PATH: a file, a folder or JSONL; repeatable."),
      option(
          "mix",
          &Options::mix,
          "Share of a domain in the batches as NAME=WEIGHT; repeatable. By size if not given."),
      option(
          "val_data",
          &Options::val_data,
          "Held-out text as PATH or NAME=PATH instead of 5 % of the training text; "
          "repeatable."),
      option(
          "tokenizer",
          &Options::tokenizer,
          "bytes, chars, bpe:SIZE (trained on the data) or the path of a tokenizer.json."),
      option(
          "from",
          &Options::from,
          "Begin with the weights and tokenizer of this run or Hugging Face folder."),
      option(
          "freeze",
          &Options::freeze,
          "Part of the model that does not learn: embedding, head, attention, norms, router, "
          "experts, shared_expert or feed_forward; experts=3,5 and router=3,5 for some of "
          "them, new-experts for those that moe-edit grow added; repeatable."),
      option(
          "only",
          &Options::only,
          "Parts that learn, named as for freeze; all others do not; repeatable. With "
          "new-experts, balancing losses and biases rest unless they are given."),
      option(
          "lora_rank",
          &Options::lora_rank,
          "Learn low-rank changes of this rank to weight matrices instead of the weights; 0 "
          "for none.",
          {.range = at_least_0}),
      option(
          "lora_alpha",
          &Options::lora_alpha,
          "Low-rank changes count lora_alpha / lora_rank; 0 means twice lora_rank.",
          {.range = at_least_0}),
      option(
          "lora_targets",
          &Options::lora_targets,
          "Parts whose matrices are changed by lora_rank, named as for freeze; experts if "
          "not given; repeatable."),
      option(
          "chat_format",
          &Options::chat_format,
          "How the turns of conversations are written: chatml, llama2, llama3, llama4, "
          "mistral or harmony; the tokenizer's own if not given."),
      option(
          "document_mask",
          &Options::document_mask,
          "Keep attention and loss inside documents."),
      option(
          "steps",
          &Options::steps,
          "Optimizer steps in total, also the length of the schedule.",
          {.range = at_least_1}),
      option(
          "batch_size",
          &Options::batch_size,
          "Sequences per forward pass B.",
          {.range = at_least_1}),
      option(
          "sequence_length",
          &Options::sequence_length,
          "Tokens per sequence S.",
          {.range = at_least_1}),
      option(
          "accumulation_steps",
          &Options::accumulation_steps,
          "Forward passes per optimizer step.",
          {.range = at_least_1}),
      option(
          "seed",
          &Options::seed,
          "Seed of initial weights and data order.",
          {.range = at_least_0}),
      option("lr", &Options::lr, "Peak learning rate.", {.range = above_0}),
      option(
          "schedule",
          &Options::schedule,
          "cosine, linear, constant or wsd (warm-up, stable, decay)."),
      option(
          "warmup_steps",
          &Options::warmup_steps,
          "Steps of linear warm-up from 0.",
          {.range = at_least_0}),
      option(
          "decay_steps",
          &Options::decay_steps,
          "Steps of the final decay of wsd; 0 means a fifth of the steps.",
          {.range = at_least_0}),
      option(
          "min_lr_ratio",
          &Options::min_lr_ratio,
          "Final learning rate as a share of lr.",
          {.range = from_0_to_1}),
      option(
          "weight_decay",
          &Options::weight_decay,
          "Decoupled weight decay; not applied to norms and biases.",
          {.range = at_least_0}),
      option(
          "beta1",
          &Options::beta1,
          "Decay of AdamW's first moment.",
          {.range = from_0_below_1}),
      option(
          "beta2",
          &Options::beta2,
          "Decay of AdamW's second moment.",
          {.range = from_0_below_1}),
      option("epsilon", &Options::epsilon, "Added to AdamW's denominator.", {.range = above_0}),
      option(
          "max_grad_norm",
          &Options::max_grad_norm,
          "Gradients are scaled down to this global norm; 0 for never.",
          {.range = at_least_0}),
      option(
          "on_nonfinite",
          &Options::on_nonfinite,
          "What to do when the loss or its gradient is not finite: stop or skip the step."),
      option(
          "on_collapse",
          &Options::on_collapse,
          "What to do when experts die or a router saturates: warn, rebalance (revive dead "
          "experts from the busiest ones) or stop."),
      option(
          "router_lr_ratio",
          &Options::router_lr_ratio,
          "Learning rate of the routers as a multiple of lr.",
          {.range = at_least_0}),
      option(
          "router_weight_decay_ratio",
          &Options::router_weight_decay_ratio,
          "Weight decay of the routers as a multiple of weight_decay.",
          {.range = at_least_0}),
      option(
          "load_balancing_weight",
          &Options::load_balancing_weight,
          "Weight of the load balancing loss of each layer and forward pass, averaged (1 at "
          "perfect balance).",
          {.range = at_least_0}),
      option(
          "global_balancing_weight",
          &Options::global_balancing_weight,
          "Weight of the same loss over all forward passes of a step together (1 at perfect "
          "balance); with accumulation_steps above 1, each of them is done once more to "
          "count.",
          {.range = at_least_0}),
      option(
          "sequence_balancing_weight",
          &Options::sequence_balancing_weight,
          "Weight of the same loss within each sequence (1 at perfect balance).",
          {.range = at_least_0}),
      option(
          "pooled_balancing_weight",
          &Options::pooled_balancing_weight,
          "Weight of the same loss over all layers together, as Hugging Face computes it "
          "(experts_per_token at perfect balance).",
          {.range = at_least_0}),
      option(
          "device_balancing_weight",
          &Options::device_balancing_weight,
          "Weight of the balance between devices, that is groups of neighbouring experts (1 "
          "at perfect balance).",
          {.range = at_least_0}),
      option(
          "communication_balancing_weight",
          &Options::communication_balancing_weight,
          "Weight of the balance of the tokens sent to each device (1 at perfect balance).",
          {.range = at_least_0}),
      option(
          "balancing_devices",
          &Options::balancing_devices,
          "Devices to balance, a divisor of num_experts; 0 means router_groups.",
          {.range = at_least_0}),
      option(
          "importance_weight",
          &Options::importance_weight,
          "Weight of the squared coefficient of variation of the experts' summed weights (0 "
          "at perfect balance).",
          {.range = at_least_0}),
      option(
          "router_z_weight",
          &Options::router_z_weight,
          "Weight of the router z-loss.",
          {.range = at_least_0}),
      option(
          "selection_bias_rate",
          &Options::selection_bias_rate,
          "How far each step moves the selection bias of experts towards an even load, in "
          "models with router_selection_bias; 0 keeps it.",
          {.range = at_least_0}),
      option(
          "selection_bias_update",
          &Options::selection_bias_update,
          "sign moves each bias by the whole rate, proportional by the rate times the "
          "distance from the mean load as a share of it."),
      option(
          "selection_bias_centered",
          &Options::selection_bias_centered,
          "Take the mean off each change of the selection bias."),
      option("device", &Options::device, "cpu or cuda.", {.choices = {"cpu", "cuda"}}),
      option(
          "dtype",
          &Options::dtype,
          "Type of computation: float32, bfloat16, or auto for the one that this processor "
          "is faster in; weights and optimizer stay float32.",
          {.choices = {"auto", "float32", "bfloat16"}}),
      option("threads", &Options::threads, "Threads of computation; 0 means one per core."),
      option(
          "recompute",
          &Options::recompute,
          "Keep only each block's input for the backward pass and compute the block again: "
          "less memory, the same result."),
      option(
          "eval_every",
          &Options::eval_every,
          "Steps between evaluations on held-out text; 0 for only at the end.",
          {.range = at_least_0}),
      option(
          "eval_tokens",
          &Options::eval_tokens,
          "Held-out tokens per evaluation, over all domains.",
          {.range = at_least_1}),
      option(
          "checkpoint_every",
          &Options::checkpoint_every,
          "Steps between checkpoints; 0 for only at the end.",
          {.range = at_least_0}),
      option(
          "keep_checkpoints",
          &Options::keep_checkpoints,
          "Checkpoints kept besides the best one.",
          {.range = at_least_1}),
      option(
          "log_every",
          &Options::log_every,
          "Steps between progress lines where there is no terminal.",
          {.range = at_least_1}),
  };
}

} // namespace

template <>
const OptionTable<TrainerOptions>& option_table<TrainerOptions>() {
  static const auto table = trainer_rows();
  return table;
}

} // namespace moe
