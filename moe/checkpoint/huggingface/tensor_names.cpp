#include <functional>
#include <numeric>
#include <utility>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

using Shape = std::vector<int64_t>;

int64_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// Strides of a tensor whose elements lie one after the other.
Shape dense_strides(const Shape& shape) {
  Shape strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * shape[i];
  }
  return strides;
}

// A view of all elements of a stored tensor, in its order.
CommonElements in_stored_order(const Shape& sizes, Shape our_strides, int64_t our_offset = 0) {
  return {sizes, dense_strides(sizes), std::move(our_strides), 0, our_offset};
}

// "a.{b,c}_d" -> {"a.b_d", "a.c_d"}; without braces the name itself.
std::vector<std::string> alternatives(const std::string& pattern) {
  const size_t open = pattern.find('{');
  if (open == std::string::npos) {
    return {pattern};
  }
  const size_t close = pattern.find('}', open);
  std::vector<std::string> names;
  for (size_t begin = open + 1; begin < close;) {
    const size_t end = std::min(pattern.find(',', begin), close);
    names.push_back(
        pattern.substr(0, open) + pattern.substr(begin, end - begin) +
        pattern.substr(close + 1));
    begin = end + 1;
  }
  return names;
}

// What a rule needs to know about one tensor of ours.
struct Subject {
  const DecoderOptions& options;
  const FileForm& form;
  const NamedShape& ours;
  int64_t layer;
};

// Heights of the parts into which rows are cut.
Shape part_heights(const Subject& subject, size_t parts, int64_t rows) {
  if (parts != 3) {
    return Shape(parts, rows / static_cast<int64_t>(parts));
  }
  const int64_t head = resolved_head_dim(subject.options);
  const int64_t key = resolved_num_kv_heads(subject.options) * head;
  return {layer_heads(subject.options, subject.layer) * head, key, key};
}

TensorParts rows_of(const Subject& subject, const std::string& pattern) {
  const size_t number = pattern.find('#');
  const Shape& full = subject.ours.shape;
  const bool per_expert = number != std::string::npos;
  const Shape matrix(full.begin() + (per_expert ? 1 : 0), full.end());
  TensorParts parts;
  for (int64_t expert = 0; expert < (per_expert ? full[0] : 1); ++expert) {
    std::string name = pattern;
    if (per_expert) {
      name.replace(number, 1, std::to_string(expert));
    }
    const auto names = alternatives(name);
    const Shape heights = part_heights(subject, names.size(), matrix[0]);
    for (size_t i = 0; i < names.size(); ++i) {
      Shape shape = matrix;
      shape[0] = heights[i];
      parts.push_back({names[i], std::move(shape)});
    }
  }
  return parts;
}

// `rows` rows of `columns` from `first_row` on in `ours`, at the same place in the stored
// tensor but for `shift` rows.
CommonElements same_rows(int64_t rows, int64_t columns, int64_t stored_row, int64_t our_row) {
  return {{rows, columns}, {columns, 1}, {columns, 1}, stored_row * columns, our_row * columns};
}

// Heads of which `turning` rows from `first` on are stored as pairs, and in ours as two halves.
void add_turning_heads(
    StoredTensor& stored,
    int64_t heads,
    int64_t head_dim,
    int64_t first,
    int64_t turning,
    int64_t columns,
    int64_t our_row) {
  const int64_t head = head_dim * columns;
  stored.elements.push_back(
      {{heads, turning / 2, 2, columns},
       {head, 2 * columns, columns, 1},
       {head, columns, turning / 2 * columns, 1},
       first * columns,
       (our_row + first) * columns});
  const auto add_still = [&](int64_t begin, int64_t end) {
    if (begin < end) {
      stored.elements.push_back(
          {{heads, end - begin, columns},
           {head, columns, 1},
           {head, columns, 1},
           begin * columns,
           (our_row + begin) * columns});
    }
  };
  add_still(0, first);
  add_still(first + turning, head_dim);
}

TensorParts turning_heads(const Subject& subject, const std::string& pattern) {
  auto parts = rows_of(subject, pattern);
  if (!subject.form.rotary_pairs) {
    return parts;
  }
  const int64_t head_dim = resolved_head_dim(subject.options);
  const int64_t turning = resolved_rotary_dim(subject.options, subject.layer);
  const int64_t first = has_latent_attention(subject.options) ? head_dim - turning : 0;
  const int64_t columns = product(subject.ours.shape) / subject.ours.shape[0];
  int64_t our_row = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t rows = parts[i].shape[0];
    if (i < 2) { // queries and keys
      add_turning_heads(parts[i], rows / head_dim, head_dim, first, turning, columns, our_row);
    } else {
      parts[i].elements.push_back(same_rows(rows, columns, 0, our_row));
    }
    our_row += rows;
  }
  return parts;
}

TensorParts turning_latent(const Subject& subject, const std::string& name) {
  StoredTensor stored{name, subject.ours.shape};
  if (subject.form.rotary_pairs) {
    const int64_t latent = subject.options.attention.key_value_latent_dim;
    const int64_t turning = subject.ours.shape[0] - latent;
    const int64_t columns = product(subject.ours.shape) / subject.ours.shape[0];
    stored.elements.push_back(same_rows(latent, columns, 0, 0));
    add_turning_heads(stored, 1, turning, 0, turning, columns, latent);
    stored.elements.back().stored_offset += latent * columns;
  }
  return {stored};
}

TensorParts one_tensor(
    const std::string& name, Shape shape, const Shape& sizes, Shape our_strides) {
  return {{name, std::move(shape), {in_stored_order(sizes, std::move(our_strides))}}};
}

// Ours is [E, rows, columns].
TensorParts stacked(const Subject& subject, const std::string& pattern) {
  const Shape& full = subject.ours.shape;
  const auto names = alternatives(pattern);
  const int64_t rows = full[1] / static_cast<int64_t>(names.size());
  TensorParts parts;
  for (size_t i = 0; i < names.size(); ++i) {
    const int64_t offset = static_cast<int64_t>(i) * rows * full[2];
    parts.push_back(
        {names[i],
         {full[0] * rows, full[2]},
         {in_stored_order({full[0], rows, full[2]}, dense_strides(full), offset)}});
  }
  return parts;
}

TensorParts parts_of(const Subject& subject, const std::string& pattern, TensorForm form) {
  const Shape& full = subject.ours.shape;
  const auto size = [&](size_t i) { return i < full.size() ? full[i] : 1; };
  const int64_t experts = size(0);
  const int64_t rows = size(1);
  const int64_t columns = size(2);
  switch (form) {
    case TensorForm::rows:
      return rows_of(subject, pattern);
    case TensorForm::one_row:
      return {{pattern, {1, experts}}};
    case TensorForm::transposed:
      return one_tensor(
          pattern,
          {experts, columns, rows},
          {experts, columns, rows},
          {rows * columns, 1, columns});
    case TensorForm::interleaved_columns:
      return one_tensor(
          pattern,
          {experts, columns, rows},
          {experts, columns, rows / 2, 2},
          {rows * columns, 1, columns, rows / 2 * columns});
    case TensorForm::interleaved:
      return one_tensor(
          pattern,
          full,
          {experts, rows / 2, 2, columns},
          {rows * columns, columns, rows / 2 * columns, 1});
    case TensorForm::mxfp4: {
      TensorParts parts{{pattern, full}};
      parts[0].encoding = StoredEncoding::mxfp4;
      return parts;
    }
    case TensorForm::mxfp4_interleaved: {
      auto parts = parts_of(subject, pattern, TensorForm::interleaved);
      parts[0].encoding = StoredEncoding::mxfp4;
      return parts;
    }
    case TensorForm::stacked:
      return stacked(subject, pattern);
    case TensorForm::stacked_transposed:
      return one_tensor(
          pattern,
          {experts * columns, rows},
          {experts, columns, rows},
          {rows * columns, 1, columns});
    case TensorForm::turning_heads:
      return turning_heads(subject, pattern);
    case TensorForm::turning_latent:
      return turning_latent(subject, pattern);
  }
  fail("no such form of a tensor");
}

// What follows the rule's name in ours (".weight", ".bias" or nothing), or null.
std::optional<std::string> matched_ending(std::string_view name, std::string_view rule) {
  if (!name.starts_with(rule)) {
    return std::nullopt;
  }
  const std::string_view ending = name.substr(rule.size());
  return ending.empty() || ending == ".weight" || ending == ".bias"
             ? std::optional(std::string(ending))
             : std::nullopt;
}

std::vector<TensorParts> layer_tensor(
    const TensorNames& names,
    const Subject& subject,
    std::string_view name,
    const std::string& prefix) {
  for (const TensorRules* rules : names.rules) {
    std::vector<TensorParts> ways;
    for (const TensorRule& rule : *rules) {
      if (const auto ending = matched_ending(name, rule.ours)) {
        ways.push_back(
            parts_of(subject, prefix + std::string(rule.theirs) + *ending, rule.form));
      }
    }
    if (!ways.empty()) {
      return ways;
    }
  }
  fail("this architecture has no tensor like ", subject.ours.name);
}

} // namespace

std::vector<TensorParts> stored_tensor(
    const TensorNames& names,
    const DecoderOptions& options,
    const FileForm& form,
    const NamedShape& ours) {
  const auto whole = [&](std::string_view name) {
    return std::vector<TensorParts>{{{form.prefix + std::string(name), ours.shape}}};
  };
  if (ours.name == "embedding.weight") {
    return whole(names.embedding);
  }
  if (ours.name == "lm_head.weight") {
    return whole("lm_head.weight");
  }
  if (ours.name == "head_bias") {
    return whole("lm_head.bias");
  }
  if (const auto ending = matched_ending(ours.name, "final_norm")) {
    return whole(std::string(names.final_norm) + *ending);
  }
  constexpr std::string_view kLayers = "layers.";
  const std::string_view rest = std::string_view(ours.name).substr(kLayers.size());
  const size_t dot = rest.find('.');
  const std::string number(rest.substr(0, dot));
  const std::string prefix = form.prefix + std::string(names.layers) + number + ".";
  const Subject subject{options, form, ours, std::stoll(number)};
  return layer_tensor(names, subject, rest.substr(dot + 1), prefix);
}

const TensorRules kLlamaNames{
    {"attention_norm", "input_layernorm"},
    {"feed_forward_norm", "post_attention_layernorm"},
    {"attention.qkv_proj", "self_attn.{q,k,v}_proj", TensorForm::turning_heads},
    {"attention.o_proj", "self_attn.o_proj"},
    {"attention.q_norm", "self_attn.q_norm"},
    {"attention.k_norm", "self_attn.k_norm"},
    {"attention.sinks", "self_attn.sinks"},
    {"feed_forward.gate_up_proj", "mlp.{gate,up}_proj.weight"},
    {"feed_forward.gate_up_bias", "mlp.{gate,up}_proj.bias"},
    {"feed_forward.down_proj", "mlp.down_proj.weight"},
    {"feed_forward.down_bias", "mlp.down_proj.bias"},
};

const TensorRules kQwenExpertNames{
    {"moe.router", "mlp.gate"},
    {"moe.gate_up_proj", "mlp.experts.#.{gate,up}_proj.weight"},
    {"moe.gate_up_proj", "mlp.experts.gate_up_proj"},
    {"moe.down_proj", "mlp.experts.#.down_proj.weight"},
    {"moe.down_proj", "mlp.experts.down_proj"},
};

const TensorRules kMixtralExpertNames{
    {"moe.router", "block_sparse_moe.gate"},
    {"moe.router", "mlp.gate"},
    {"moe.gate_up_proj", "block_sparse_moe.experts.#.{w1,w3}.weight"},
    {"moe.gate_up_proj", "mlp.experts.gate_up_proj"},
    {"moe.down_proj", "block_sparse_moe.experts.#.w2.weight"},
    {"moe.down_proj", "mlp.experts.down_proj"},
};

const TensorRules kSharedExpertsNames{
    {"moe.shared_expert.gate_up_proj", "mlp.shared_experts.{gate,up}_proj.weight"},
    {"moe.shared_expert.gate_up_bias", "mlp.shared_experts.{gate,up}_proj.bias"},
    {"moe.shared_expert.down_proj", "mlp.shared_experts.down_proj.weight"},
    {"moe.shared_expert.down_bias", "mlp.shared_experts.down_proj.bias"},
};

const TensorRules kLatentAttentionNames{
    {"attention.q_proj", "self_attn.q_proj", TensorForm::turning_heads},
    {"attention.q_down_proj", "self_attn.q_a_proj"},
    {"attention.q_norm", "self_attn.q_a_layernorm"},
    {"attention.q_up_proj", "self_attn.q_b_proj", TensorForm::turning_heads},
    {"attention.kv_down_proj", "self_attn.kv_a_proj_with_mqa", TensorForm::turning_latent},
    {"attention.kv_norm", "self_attn.kv_a_layernorm"},
    {"attention.kv_up_proj", "self_attn.kv_b_proj"},
};

const TensorRules kSelectionBiasNames{
    {"moe.router.selection_bias", "mlp.gate.e_score_correction_bias"},
};

} // namespace moe
