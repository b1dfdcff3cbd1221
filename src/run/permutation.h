// A shuffled order without a list of it.
#pragma once

#include <array>
#include <cstdint>

namespace orion {

/// A bijection of [0, size) chosen by a seed and a round, the same on every platform, in no memory: a
/// Feistel network over the next power of four, applied again while it leads outside.
class Permutation {
 public:
  /// `size` is from 1 to 2^62.
  Permutation(std::int64_t size, std::uint64_t seed, std::uint64_t round);

  std::int64_t operator()(std::int64_t index) const;

 private:
  std::uint64_t shuffled(std::uint64_t index) const;

  std::int64_t size_;
  unsigned half_bits_ = 1;
  std::array<std::uint64_t, 8> keys_{};
};

}  // namespace orion
