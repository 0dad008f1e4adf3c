#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_mistral4(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Mistral4ForCausalLM"};
  write_common(options, extras, config);
  write_latent_attention(options, config);
  write_deepseek_experts(options, config);
  write_group_router(options, config);
  config["first_k_dense_replace"] = count_first_dense(options);
  const int64_t head = resolved_head_dim(options);
  config["head_dim"] = head;
  config.erase("rope_scaling");
  auto& rope = config["rope_parameters"];
  rope["partial_rotary_factor"] =
      static_cast<double>(resolved_rotary_dim(options, 0)) / static_cast<double>(head);
  // Both must be there even if queries do not grow.
  rope["llama_4_scaling_beta"] = options.attention.query_growth;
  if (options.attention.query_growth != 0.0) {
    check(
        options.rotary.scaling != RotaryScaling::none &&
            options.attention.query_growth_length == options.rotary.original_length,
        "query_growth_length: must be rope_original_length");
  }
  rope["original_max_position_embeddings"] = options.rotary.original_length > 0
                                                 ? options.rotary.original_length
                                                 : options.context_length;
}

void read_mistral4(ConfigReader& reader, ReadConfig& config) {
  read_latent_attention(reader, config);
  DecoderOptions& options = config.options;
  if (!reader.has("rope_parameters") && !reader.has("rope_scaling")) {
    reader.fail_value("rope_parameters", "an object");
  }
  read_deepseek_experts(reader, config);
  read_first_dense(reader, options, "first_k_dense_replace", 0);
  options.router.normalize_weights = reader.flag("norm_topk_prob", true);
  options.router.routed_scaling_factor = reader.number("routed_scaling_factor", 1.0);
  read_groups(reader, options, RouterSelection::groups_by_top2);
}

const TensorRules kMistral4ExpertNames{
    {"moe.router", "mlp.gate"},
    {"moe.gate_up_proj", "mlp.experts.gate_up_proj"},
    {"moe.down_proj", "mlp.experts.down_proj"},
};
const TensorNames kMistral4Tensors{
    .rules = {
        &kLatentAttentionNames, &kSharedExpertsNames, &kMistral4ExpertNames, &kLlamaNames}};

} // namespace

const Family kMistral4{"mistral4", write_mistral4, read_mistral4, &kMistral4Tensors};

} // namespace moe
