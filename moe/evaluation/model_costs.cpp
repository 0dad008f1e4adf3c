#include "moe/evaluation/model_costs.h"

#include <algorithm>

namespace moe {
namespace {

/// Tokens that the last of `length` tokens sees in a layer.
int64_t visible_tokens(const DecoderOptions& options, int64_t layer, int64_t length) {
  if (names_layer(options.full_attention_layers, layer)) {
    return length;
  }
  const int64_t chunk = options.attention.chunk;
  const int64_t in_chunk = chunk > 0 ? (length - 1) % chunk + 1 : length;
  return options.attention.sliding_window > 0
             ? std::min(options.attention.sliding_window, in_chunk)
             : in_chunk;
}

/// What a query head multiplies with for each token that it sees: scores and values.
int64_t head_elements(const DecoderOptions& options, int64_t layer) {
  if (has_latent_attention(options)) {
    return 2 * options.attention.key_value_latent_dim + resolved_rotary_dim(options, layer);
  }
  return 2 * resolved_head_dim(options);
}

/// "4" or "4 to 16" for values that differ by layer.
std::string range_words(const std::vector<int64_t>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const auto words = std::to_string(*least);
  return *least == *most ? words : words + " to " + std::to_string(*most);
}

std::string heads_words(const DecoderOptions& options) {
  std::vector<int64_t> heads;
  std::vector<int64_t> turning;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    heads.push_back(layer_heads(options, layer));
    turning.push_back(resolved_rotary_dim(options, layer));
  }
  const auto count = range_words(heads);
  const auto width = std::to_string(resolved_head_dim(options));
  if (!has_latent_attention(options)) {
    return count + " query heads, " + std::to_string(resolved_num_kv_heads(options)) +
           " key and value heads of " + width;
  }
  std::string words = count + " heads of " + width + " with values of " +
                      std::to_string(resolved_value_dim(options)) +
                      ", from a latent vector of " +
                      std::to_string(options.attention.key_value_latent_dim) +
                      " and a turning key of " + range_words(turning) + " per token";
  if (options.attention.query_latent_dim > 0) {
    words += ", queries from one of " + std::to_string(options.attention.query_latent_dim);
  }
  return words;
}

/// " in 3 of 4 layers"; nothing for all of them.
std::string layers_words(const DecoderOptions& options, int64_t count) {
  return count == options.num_layers ? ""
                                     : " in " + std::to_string(count) + " of " +
                                           std::to_string(options.num_layers) + " layers";
}

int64_t count_layers(const DecoderOptions& options, const std::vector<int64_t>& layers) {
  int64_t count = 0;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    count += names_layer(layers, layer) ? 1 : 0;
  }
  return count;
}

std::string number(double value) {
  auto text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  return text.back() == '.' ? text + "0" : text;
}

std::string highest_scores(const DecoderOptions& options) {
  std::string words = ", the " + std::to_string(options.experts_per_token) + " highest scores";
  return words + (options.router.selection_bias ? " with a bias for the choice" : "");
}

std::string selection_words(const DecoderOptions& options) {
  const auto count = std::to_string(options.experts_per_token);
  const RouterSelection selection = options.router.selection;
  if (selection == RouterSelection::hash) {
    return ", " + count + " of them by the token id";
  }
  if (selection == RouterSelection::expert_choice) {
    return ", each of which chooses its best tokens, " + count + " experts a token on average";
  }
  if (selection == RouterSelection::sinkhorn) {
    return highest_scores(options) + ", balanced over the batch in training";
  }
  std::string words;
  if (selection != RouterSelection::top_k) {
    words += ", within the " + std::to_string(options.router.groups_kept) + " best of " +
             std::to_string(options.router.groups) + " groups by their ";
    words += selection == RouterSelection::groups_by_max ? "best score" : "two best scores";
  }
  return words + highest_scores(options);
}

std::string weighting_words(const DecoderOptions& options) {
  std::string words = ", weights are the scores themselves";
  if (options.router.weighting == RouterWeighting::softmax) {
    words = ", weights are the softmax of their logits";
  } else if (options.router.normalize_weights) {
    words = ", weights divided by their ";
    words += options.router.normalize_power == 1.0
                 ? "sum"
                 : "norm of order " + number(options.router.normalize_power);
  }
  if (options.router.routed_scaling_factor != 1.0) {
    words += ", times " + number(options.router.routed_scaling_factor);
  }
  return words +
         (options.router.weights_on_input ? ", multiplied with the experts' input" : "");
}

std::string experts_words(const DecoderOptions& options) {
  int64_t fewest = options.num_experts;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (is_moe_layer(options, layer)) {
      fewest = std::min(fewest, layer_experts(options, layer));
    }
  }
  const auto most = std::to_string(options.num_experts) + " experts";
  return fewest == options.num_experts ? most : std::to_string(fewest) + " to " + most;
}

std::string score_words(const DecoderOptions& options) {
  std::string words(enum_name(options.router.score));
  words += options.router.gate == RouterGate::cosine ? " of cosines over " : " over ";
  words += experts_words(options);
  if (options.router.bias) {
    words += " with a learned bias";
  }
  if (options.router.logit_cap > 0.0) {
    words += ", logits bent to " + number(options.router.logit_cap);
  }
  return words;
}

/// What happens in training only; empty for nothing.
std::string training_words(const DecoderOptions& options) {
  std::string words;
  if (options.router.jitter > 0.0) {
    words += ", inputs jittered by " + number(options.router.jitter);
  }
  if (options.router.noise == RouterNoise::learned) {
    words += ", learned noise";
  }
  if (options.router.capacity_factor > 0.0) {
    words += ", at most " + number(options.router.capacity_factor) +
             " times the even load, the rest dropped by ";
    words += enum_name(options.router.capacity_drop);
  }
  return words.empty() ? words : "; in training" + words.substr(1);
}

} // namespace

int64_t cache_elements(const DecoderOptions& options, int64_t length) {
  int64_t sum = 0;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    sum += has_latent_attention(options)
               ? options.attention.key_value_latent_dim + resolved_rotary_dim(options, layer)
               : 2 * resolved_num_kv_heads(options) * resolved_head_dim(options);
  }
  return sum * length;
}

int64_t token_operations(const DecoderOptions& options, int64_t length) {
  // A token looks its embedding up, it does not multiply with that matrix.
  const int64_t looked_up = options.tie_embeddings ? 0 : options.vocab_size * options.model_dim;
  int64_t sum = count_parameters(options).active - looked_up;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    sum += layer_heads(options, layer) * head_elements(options, layer) *
           visible_tokens(options, layer, length);
  }
  return 2 * sum;
}

std::string describe_attention(const DecoderOptions& options) {
  auto words = heads_words(options);
  const auto narrow = options.num_layers - count_layers(options, options.full_attention_layers);
  if (options.attention.sliding_window > 0) {
    words += ", window of " + std::to_string(options.attention.sliding_window) +
             layers_words(options, narrow);
  }
  if (options.attention.chunk > 0) {
    words += ", chunks of " + std::to_string(options.attention.chunk) +
             layers_words(options, narrow);
  }
  if (const auto still = count_layers(options, options.no_rope_layers); still > 0) {
    words += ", no positions" + layers_words(options, still);
  }
  return words + (options.attention.sinks ? ", with sinks" : "");
}

std::string describe_routing(const DecoderOptions& options) {
  if (options.num_experts == 0) {
    return "no experts";
  }
  std::string text =
      options.router.weighting == RouterWeighting::sparsemixer
          ? "sparsemixer over " + experts_words(options) + ", " +
                std::to_string(options.experts_per_token) + " of them one after the other"
          : score_words(options) + selection_words(options) + weighting_words(options);
  if (options.shared_expert_dim > 0) {
    text += ", and one shared expert for every token";
    text += options.shared_expert_gate ? " behind a sigmoid gate" : "";
  }
  return text + training_words(options);
}

} // namespace moe
