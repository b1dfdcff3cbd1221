#include "run/permutation.h"

#include "base/split_mix.h"

#include <cassert>

namespace orion {

Permutation::Permutation(std::int64_t size, std::uint64_t seed, std::uint64_t round) : size_(size) {
  assert(size > 0 && size <= std::int64_t{1} << 62);
  while ((std::uint64_t{1} << (2 * half_bits_)) < static_cast<std::uint64_t>(size)) ++half_bits_;
  // Mixed before the round is added: neighbouring seeds share no orders.
  std::uint64_t state = split_mix(seed) + round;
  for (std::uint64_t& key : keys_) key = split_mix(state);
}

// At most four times as many indices as are wanted: a few steps at most lead back inside.
std::int64_t Permutation::operator()(std::int64_t index) const {
  assert(index >= 0 && index < size_);
  auto next = static_cast<std::uint64_t>(index);
  do next = shuffled(next);
  while (next >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(next);
}

std::uint64_t Permutation::shuffled(std::uint64_t index) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = index >> half_bits_;
  std::uint64_t right = index & mask;
  for (const std::uint64_t key : keys_) {
    const std::uint64_t next = left ^ (mixed(key + right) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

}  // namespace orion
