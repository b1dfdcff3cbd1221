// SplitMix64 (Steele, Lea and Flood, 2014): a counter whose every value is well mixed.
#pragma once

#include <cstdint>

namespace orion {

/// A bijection of 64 bits in which each bit of the input changes half of the output.
constexpr std::uint64_t mixed(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Number n = 0, 1, ... of the sequence that `state` is at.
constexpr std::uint64_t split_mix_at(std::uint64_t state, std::uint64_t n) {
  return mixed(state + (n + 1) * 0x9e3779b97f4a7c15u);
}

/// The next number of the sequence that `state` is at.
constexpr std::uint64_t split_mix(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15u;
  return mixed(state);
}

}  // namespace orion
