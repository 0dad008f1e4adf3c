#pragma once

// Catch2 v2 (Debian 12) and v3 differ in their headers and in a few names. Tests use the v3
// names.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
template <class T>
using MatcherBase = Catch::Matchers::MatcherBase<T>;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;
#else
#include <catch2/catch.hpp>
template <class T>
using MatcherBase = Catch::MatcherBase<T>;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;
inline auto ContainsSubstring(const std::string& text) {
  return Catch::Matchers::Contains(text);
}
#endif
