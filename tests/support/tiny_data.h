#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "moe/data/token_dataset.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe::testing {

/// A token file of one document with these ids.
inline TokenFile token_file(
    const std::filesystem::path& path, const std::vector<int32_t>& ids, int64_t vocab_size) {
  TokenFileWriter writer(path.string(), vocab_size, "test", vocab_size - 1);
  writer.add(ids, static_cast<int64_t>(ids.size()));
  writer.finish();
  return TokenFile(path.string(), vocab_size, "test");
}

/// `count` ids that repeat 0, 1, ..., period - 1.
inline std::vector<int32_t> repeating_ids(int64_t count, int32_t period) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(i % period));
  }
  return ids;
}

} // namespace moe::testing
