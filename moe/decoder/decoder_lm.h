#pragma once

#include <vector>

#include "moe/decoder/decoder_block.h"
#include "moe/decoder/decoder_options.h"
#include "moe/decoder/decoder_state.h"
#include "moe/libtorch.h"

namespace moe {

/// What the decoder makes of a batch.
struct DecoderOutput {
  torch::Tensor hidden;         ///< [B, S, D], after the final norm
  std::vector<Routing> routing; ///< one per layer with experts, in the order of layers
  /// Of `trace` only: the input of the first layer and the output of each, [B, S, D]; the last
  /// one is taken after the final norm.
  std::vector<torch::Tensor> hidden_states;
  /// Of `trace` only: what the experts of each layer with experts take, [B, S, D].
  std::vector<torch::Tensor> expert_inputs;
};

/// Two matrices whose product are the logits.
struct HeadOperands {
  torch::Tensor rows;   ///< [..., D], or [..., D + 1] with a bias
  torch::Tensor weight; ///< [V, D], or [V, D + 1] with a bias
};

/// A decoder-only language model: embedding, blocks of attention and experts, final norm and
/// vocabulary head.
///
/// Example:
/// ```
/// DecoderLM model(DecoderOptions{.vocab_size = 257, .model_dim = 128, .attention = {.num_heads
/// = 4}}); DecoderOutput output = model->forward(ids);                // ids [B, S] int64
/// torch::Tensor logits = model->logits(output.hidden);       // [B, S, V]
/// ```
class DecoderLMImpl : public torch::nn::Cloneable<DecoderLMImpl> {
 public:
  /// Throws `Error` if the options are impossible.
  explicit DecoderLMImpl(const DecoderOptions& options_);

  void reset() override;
  /// Draws new initial weights from LibTorch's default generator.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `ids` [B, S] int64. With `documents` [B, S] int64, the running number of each token's
  /// document in its row, tokens of different documents do not see each other.
  DecoderOutput forward(const torch::Tensor& ids, const torch::Tensor& documents = {});

  /// The same, with the hidden states between the layers and in front of the experts.
  DecoderOutput trace(const torch::Tensor& ids, const torch::Tensor& documents = {});

  /// The same for ids that continue the tokens in `state`, which takes them in.
  DecoderOutput forward(const torch::Tensor& ids, DecoderState& state);

  /// `hidden` [..., D] -> [..., V].
  torch::Tensor logits(const torch::Tensor& hidden);

  /// What `next_token_loss` and `token_losses` take: rows · weightᵀ are the logits of `hidden`,
  /// multiplier and bias included.
  HeadOperands head_operands(const torch::Tensor& hidden) const;

  /// The matrix of the vocabulary head, [V, D]; the embedding's if they are tied.
  torch::Tensor head_weight() const;

  /// An empty state for `capacity` tokens of each of `batch_size` sequences.
  DecoderState make_state(int64_t batch_size, int64_t capacity);

  /// The options with which this module was made; changes after construction have no effect.
  DecoderOptions options;
  torch::nn::Embedding embedding{nullptr};
  torch::nn::ModuleList layers{nullptr};
  RMSNorm final_norm{nullptr};
  torch::Tensor head_bias;            ///< [V]; undefined without bias
  torch::nn::Linear lm_head{nullptr}; ///< empty if the embeddings are tied
  /// Keep only each block's input for the backward pass, which computes the blocks once more.
  /// `backward()` then adds the gradients of the weights to their `grad()`;
  /// `torch::autograd::grad` does not see them.
  bool recompute = false;

 private:
  DecoderOutput run(
      const torch::Tensor& ids,
      DecoderState* state,
      const torch::Tensor& documents,
      bool keep_hidden_states = false);
  DecoderOutput forward_longrope(const torch::Tensor& ids, DecoderState& state);
};

TORCH_MODULE(DecoderLM);

/// Indices of the layers with experts: `DecoderOutput::routing[i]` is of layer
/// `moe_layers(...)[i]`.
std::vector<int64_t> moe_layers(const DecoderOptions& options);

} // namespace moe
