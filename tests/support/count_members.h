#pragma once

#include <concepts>
#include <cstddef>
#include <utility>

namespace moe::testing {

/// Stands for a value of any type.
struct AnyValue {
  template <class Value>
  operator Value() const;
};

template <class Aggregate, size_t... Index>
constexpr bool takes_members(std::index_sequence<Index...>) {
  return requires {
    Aggregate{(static_cast<void>(Index), AnyValue{})...};
  };
}

/// The members of a struct that can be initialised by a list: as many values as it takes.
template <class Aggregate, size_t Count = 0>
constexpr size_t count_members() {
  if constexpr (takes_members<Aggregate>(std::make_index_sequence<Count + 1>())) {
    return count_members<Aggregate, Count + 1>();
  } else {
    return Count;
  }
}

} // namespace moe::testing
