#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/catch.h"

namespace moe::testing {

/// Checks `text` against the file fixtures/`name`. A change that is meant is written there by
/// running the test with MOE_UPDATE_GOLDEN=1, and its commit says why.
inline void check_golden(const std::string& name, const std::string& text) {
  const auto path = std::filesystem::path(MOE_TEST_FIXTURES) / name;
  if (std::getenv("MOE_UPDATE_GOLDEN") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  std::ifstream file(path, std::ios::binary);
  const std::string golden{std::istreambuf_iterator<char>(file), {}};
  INFO(path.string());
  CHECK(text == golden);
}

} // namespace moe::testing
