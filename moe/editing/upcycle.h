#pragma once

#include "moe/editing/edited_model.h"

namespace moe {

/// How a dense model becomes a mixture of experts.
struct UpcycleOptions {
  int64_t experts = 8;
  int64_t experts_per_token = 2;
  /// Pieces into which the hidden units of a network are cut, one for each expert; 1 for
  /// experts as wide as the network. Divides both numbers above and the width.
  int64_t parts = 1;
  /// Share of each expert's hidden units that is drawn anew, 0 to 1.
  double reinitialize = 0.0;
  std::vector<int64_t> layers = {}; ///< that get experts; none for all
  int64_t seed = 0;
};

/// Makes experts of the feed-forward networks of a dense model (Komatsuzaki et al., arXiv
/// 2212.05055): each expert is a copy of the layer's network, the router is drawn anew, and the
/// weights of the chosen experts sum to 1, so the function is exactly the old one.
///
/// With `parts` G, each expert is one G-th of the hidden units, experts g · G to g · G + G − 1
/// together are a copy of the network and have the same row of the router (virtual groups, He
/// et al., arXiv 2410.07524). So each token gets whole groups, and with `down_proj` times G the
/// function is the old one again.
///
/// `reinitialize` draws a share of the hidden units of each expert anew, from normal
/// distributions with the mean and the deviation of those that they replace (drop-upcycling,
/// Nakamura et al., arXiv 2502.19261): experts begin different from each other, and the
/// function changes.
///
/// Throws `Error` for models with experts and numbers that do not fit.
EditedModel upcycle(const ModelFolder& source, const UpcycleOptions& options);

} // namespace moe
