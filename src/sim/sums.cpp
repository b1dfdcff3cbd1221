#include "sim/sums.h"

#include <cstring>
#include <vector>

// One source for every instruction set: the compiler's own vectors, as wide as the registers are.

namespace orion::sim {
namespace {

enum class Rounding : std::uint8_t { none, even, away };

template <int bytes>
struct Vector {
  using Floats [[gnu::vector_size(bytes)]] = float;
  using Ints [[gnu::vector_size(bytes)]] = std::int32_t;
};

// Bits of fp32 numbers, as signed integers.
constexpr std::int32_t magnitude_bits = 0x7fffffff;
constexpr std::int32_t cut_bits = 0x1fff;  // what fp16's mantissa lacks
constexpr auto tiny_below = static_cast<std::int32_t>(smallest_normal_half);
constexpr auto large_from = static_cast<std::int32_t>(too_large_half);
constexpr auto infinite_bits = static_cast<std::int32_t>(infinite);
constexpr auto nan_bits = static_cast<std::int32_t>(quiet_nan);

template <class V>
using Floats = typename V::Floats;
template <class V>
using Ints = typename V::Ints;

// Everything below is inlined into the one function that is compiled for an instruction set, and takes
// vectors by reference: how they are passed would depend on it.

template <class V>
[[gnu::always_inline]] inline void choose(const Ints<V>& mask, const Ints<V>& yes, Ints<V>& value) {
  value = (mask & yes) | (~mask & value);
}

// Magnitudes below 2^-14 to multiples of 2^-24; others do not matter.
template <Rounding rounding, class V>
[[gnu::always_inline]] inline void round_subnormal(const Ints<V>& magnitude, Ints<V>& result) {
  const auto value = __builtin_bit_cast(Floats<V>, magnitude);
  if constexpr (rounding == Rounding::even) {
    result = __builtin_bit_cast(Ints<V>, (value + 0.5F) - 0.5F);  // fp32's own rounding has these steps
  } else {
    const Floats<V> steps = value * 0x1p24F;
    const Floats<V> whole = __builtin_convertvector(__builtin_convertvector(steps, Ints<V>), Floats<V>);
    const Ints<V> up = steps - whole >= 0.5F;
    const Floats<V> rounded_steps = whole - __builtin_convertvector(up, Floats<V>);  // true is -1
    result = __builtin_bit_cast(Ints<V>, rounded_steps * 0x1p-24F);
  }
}

// Products of fp16 values are exact in fp32; `product` becomes what the engine makes of them.
template <Rounding rounding, bool flush, bool watch, class V>
[[gnu::always_inline]] inline void round_product(Floats<V>& product) {
  const auto bits = __builtin_bit_cast(Ints<V>, product);
  const Ints<V> magnitude = bits & magnitude_bits;
  const Ints<V> tiny = magnitude < tiny_below;
  Ints<V> result = magnitude;
  if constexpr (rounding == Rounding::away) result = (magnitude + 0x1000) & ~cut_bits;
  if constexpr (rounding == Rounding::even)
    result = (magnitude + 0xfff + ((magnitude >> 13) & 1)) & ~cut_bits;
  if constexpr (flush) {
    result &= ~tiny;
  } else if constexpr (rounding != Rounding::none) {
    Ints<V> small;
    round_subnormal<rounding, V>(magnitude & tiny, small);
    choose<V>(tiny, small, result);
  }
  if constexpr (watch && rounding != Rounding::none) {
    choose<V>(result >= large_from, Ints<V>{} + infinite_bits, result);
    choose<V>(magnitude > infinite_bits, Ints<V>{} + nan_bits, result);
  }
  product = __builtin_bit_cast(Floats<V>, (bits & ~magnitude_bits) | result);
}

template <Rounding rounding, bool flush, bool watch, class V>
[[gnu::always_inline]] inline void add_products(const float* row, const float* panel, std::int64_t depth,
                                                Lanes& result) {
  constexpr std::size_t width = sizeof(Floats<V>) / sizeof(float);
  constexpr std::size_t vectors = lanes / width;
  Floats<V> sums[vectors] = {};
  for (std::int64_t k = 0; k < depth; ++k, panel += lanes) {
    for (std::size_t v = 0; v < vectors; ++v) {
      Floats<V> product;
      std::memcpy(&product, panel + v * width, sizeof(product));
      product *= row[k];
      round_product<rounding, flush, watch, V>(product);
      sums[v] += product;
    }
  }
  std::memcpy(result.data(), sums, sizeof(sums));
}

// -- one function for each instruction set ---------------------------------------------------------------

struct Portable {
  template <Rounding rounding, bool flush, bool watch>
  static void sum(const float* row, const float* panel, std::int64_t depth, Lanes& result) {
    add_products<rounding, flush, watch, Vector<16>>(row, panel, depth, result);
  }
};

#if defined(__x86_64__)
struct Avx2 {
  template <Rounding rounding, bool flush, bool watch>
  [[gnu::target("avx2")]] static void sum(const float* row, const float* panel, std::int64_t depth,
                                          Lanes& result) {
    add_products<rounding, flush, watch, Vector<32>>(row, panel, depth, result);
  }
};

struct Avx512 {
  template <Rounding rounding, bool flush, bool watch>
  [[gnu::target("avx512f")]] static void sum(const float* row, const float* panel, std::int64_t depth,
                                             Lanes& result) {
    add_products<rounding, flush, watch, Vector<64>>(row, panel, depth, result);
  }
};
#endif

template <class Set, Rounding rounding>
SumOfProducts chosen(bool flush, bool watch) {
  if (flush)
    return watch ? Set::template sum<rounding, true, true> : Set::template sum<rounding, true, false>;
  return watch ? Set::template sum<rounding, false, true> : Set::template sum<rounding, false, false>;
}

template <class Set>
SumOfProducts chosen(const Arithmetic& arithmetic, bool watch) {
  const bool flush = arithmetic.flush_products;
  if (!arithmetic.round_products) return chosen<Set, Rounding::none>(flush, watch);
  if (arithmetic.ties_away) return chosen<Set, Rounding::away>(flush, watch);
  return chosen<Set, Rounding::even>(flush, watch);
}

std::vector<InstructionSet> supported() {
  std::vector<InstructionSet> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) sets.push_back(InstructionSet::avx512);
  if (__builtin_cpu_supports("avx2")) sets.push_back(InstructionSet::avx2);
#endif
  sets.push_back(InstructionSet::portable);
  return sets;
}

}  // namespace

std::span<const InstructionSet> instruction_sets() {
  static const std::vector<InstructionSet> sets = supported();
  return sets;
}

SumOfProducts sum_of_products(const Arithmetic& arithmetic, bool watch_overflow,
                              [[maybe_unused]] InstructionSet set) {
#if defined(__x86_64__)
  if (set == InstructionSet::avx512) return chosen<Avx512>(arithmetic, watch_overflow);
  if (set == InstructionSet::avx2) return chosen<Avx2>(arithmetic, watch_overflow);
#endif
  return chosen<Portable>(arithmetic, watch_overflow);
}

}  // namespace orion::sim
