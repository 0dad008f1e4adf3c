#include "moe/training/compute_dtype.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("resolve_dtype: auto is bfloat16 where that is faster", "[training]") {
  using enum BFloat16Instructions;
  CHECK(resolve_dtype("auto", "cpu", faster) == "bfloat16");
  for (const auto instructions : {unknown, none, slower}) {
    CHECK(resolve_dtype("auto", "cpu", instructions) == "float32");
  }
  CHECK(resolve_dtype("auto", "cuda", faster) == "float32");
  CHECK(resolve_dtype("float32", "cpu", faster) == "float32");
  CHECK(resolve_dtype("bfloat16", "cpu", none) == "bfloat16");
}

TEST_CASE("dtype_warning: only for bfloat16 where it is slow", "[training]") {
  using enum BFloat16Instructions;
  CHECK_THAT(
      dtype_warning("bfloat16", "cpu", none), ContainsSubstring("no bfloat16 instructions"));
  CHECK_THAT(dtype_warning("bfloat16", "cpu", slower), ContainsSubstring("half the rate"));
  CHECK(dtype_warning("bfloat16", "cpu", faster).empty());
  CHECK(dtype_warning("bfloat16", "cpu", unknown).empty());
  CHECK(dtype_warning("bfloat16", "cuda", none).empty());
  CHECK(dtype_warning("float32", "cpu", none).empty());
}
