#include "moe/evaluation/model_costs.h"

#include <algorithm>

namespace moe {
namespace {

/// Tokens that the last of `length` tokens sees.
int64_t visible_tokens(const DecoderOptions& options, int64_t length) {
  return options.sliding_window > 0 ? std::min(options.sliding_window, length) : length;
}

std::string number(double value) {
  auto text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  return text.back() == '.' ? text + "0" : text;
}

} // namespace

int64_t cache_elements(const DecoderOptions& options, int64_t length) {
  const int64_t width = resolved_num_kv_heads(options) * resolved_head_dim(options);
  return options.num_layers * 2 * width * visible_tokens(options, length);
}

int64_t token_operations(const DecoderOptions& options, int64_t length) {
  // A token looks its embedding up, it does not multiply with that matrix.
  const int64_t looked_up = options.tie_embeddings ? 0 : options.vocab_size * options.model_dim;
  const int64_t matrices = count_parameters(options).active - looked_up;
  const int64_t heads = options.num_heads * resolved_head_dim(options);
  const int64_t attention =
      options.num_layers * 2 * heads * visible_tokens(options, length); // scores and values
  return 2 * (matrices + attention);
}

std::string describe_routing(const DecoderOptions& options) {
  if (options.num_experts == 0) {
    return "no experts";
  }
  std::string text = "softmax over " + std::to_string(options.num_experts) + " experts, the " +
                     std::to_string(options.experts_per_token) + " highest scores";
  text += options.normalize_weights ? ", weights divided by their sum"
                                    : ", weights are the scores themselves";
  if (options.routed_scaling_factor != 1.0) {
    text += ", times " + number(options.routed_scaling_factor);
  }
  if (options.shared_expert_dim > 0) {
    text += ", and one shared expert for every token";
    text += options.shared_expert_gate ? " behind a sigmoid gate" : "";
  }
  return text;
}

} // namespace moe
