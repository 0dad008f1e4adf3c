#include "moe/training/compute_dtype.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("resolve_dtype: auto is the type of the kernels", "[training]") {
  CHECK(resolve_dtype("auto") == "float32");
  CHECK(resolve_dtype("float32") == "float32");
  CHECK(resolve_dtype("bfloat16") == "bfloat16");
}

TEST_CASE("dtype_warning: only for bfloat16 on a processor without it", "[training]") {
  CHECK_THAT(
      dtype_warning("bfloat16", "cpu", /*multiplies_bfloat16=*/false),
      ContainsSubstring("no bfloat16 instructions"));
  CHECK(dtype_warning("bfloat16", "cpu", true).empty());
  CHECK(dtype_warning("bfloat16", "cuda", false).empty());
  CHECK(dtype_warning("float32", "cpu", false).empty());
  CHECK(dtype_warning("auto", "cpu", false).empty());
}
