#include "moe/data/permutation.h"

#include <set>
#include <vector>

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("permute maps every index to another one of the same range", "[data]") {
  const auto size = GENERATE(1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097);
  std::vector<bool> seen(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) {
    const int64_t image = permute(i, size, /*key=*/7);
    REQUIRE(image >= 0);
    REQUIRE(image < size);
    REQUIRE_FALSE(seen[static_cast<size_t>(image)]);
    seen[static_cast<size_t>(image)] = true;
  }
}

TEST_CASE("permute depends on its key and leaves no order", "[data]") {
  std::set<std::vector<int64_t>> orders;
  int64_t ascending = 0;
  for (uint64_t key = 0; key < 100; ++key) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < 50; ++i) {
      order.push_back(permute(i, 50, key));
      ascending += i > 0 && order[static_cast<size_t>(i)] > order[static_cast<size_t>(i - 1)];
    }
    orders.insert(order);
  }
  CHECK(orders.size() == 100);
  CHECK(ascending > 100 * 49 * 0.45);
  CHECK(ascending < 100 * 49 * 0.55);
}

TEST_CASE("permute reaches indices beyond 32 bits", "[data]") {
  const int64_t size = int64_t{1} << 40;
  const int64_t image = permute(size - 1, size, /*key=*/1);
  CHECK(image >= 0);
  CHECK(image < size);
}
