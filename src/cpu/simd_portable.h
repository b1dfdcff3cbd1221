// Four floats in the compiler's own vector type: what the kernels run on where nothing better is known,
// and the description of what every vector type here offers.
#pragma once

#include "base/f16.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace orion::cpu::portable {

struct Vec {
  using Floats [[gnu::vector_size(16)]] = float;
  using Ints [[gnu::vector_size(16)]] = std::int32_t;

  static constexpr int lanes = 4;
  /// The register tile of matrix products: rows of A, and vectors of B (one panel holds a whole number).
  static constexpr int tile_rows = 4;
  static constexpr int tile_vectors = 2;
  /// Sums kept in flight by matrix-vector products.
  static constexpr int vector_accumulators = 8;

  Floats v;

  Vec() = default;
  Vec(Floats from) : v(from) {}
  explicit Vec(float from) : v{from, from, from, from} {}

  /// All lanes from memory, or the first n with zeros after them and nothing beyond them touched.
  /// Halves (fp16 bit patterns) are widened.
  static Vec load(const float* p) {
    Vec a;
    std::memcpy(&a.v, p, sizeof(a.v));
    return a;
  }
  static Vec load(const float* p, int n) {
    if (n == lanes) return load(p);
    Vec a(0.0F);
    std::memcpy(&a.v, p, static_cast<std::size_t>(n) * sizeof(*p));
    return a;
  }
  static Vec load(const std::uint16_t* p) { return load(p, lanes); }
  static Vec load(const std::uint16_t* p, int n) {
    Vec a(0.0F);
    for (int i = 0; i < n; ++i) a.v[i] = half_to_float(p[i]);
    return a;
  }
  /// All lanes, or the first n, to memory; to halves rounding to nearest even.
  void store(float* p) const { std::memcpy(p, &v, sizeof(v)); }
  void store(float* p, int n) const {
    if (n == lanes) return store(p);
    std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(*p));
  }
  void store(std::uint16_t* p) const { store(p, lanes); }
  void store(std::uint16_t* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = float_to_half(v[i]);
  }
};

struct Mask {
  Vec::Ints m;
};

inline Vec operator+(Vec a, Vec b) {
  return a.v + b.v;
}
inline Vec operator-(Vec a, Vec b) {
  return a.v - b.v;
}
inline Vec operator*(Vec a, Vec b) {
  return a.v * b.v;
}
inline Vec operator/(Vec a, Vec b) {
  return a.v / b.v;
}
/// a * b + c, in one rounding where the hardware does it.
inline Vec fma(Vec a, Vec b, Vec c) {
  return a.v * b.v + c.v;
}
/// The larger (smaller); NaN if b is NaN. If only a is NaN: either.
inline Vec max(Vec a, Vec b) {
  return a.v > b.v ? a.v : b.v;
}
inline Vec min(Vec a, Vec b) {
  return a.v < b.v ? a.v : b.v;
}
inline Vec abs(Vec a) {
  return std::bit_cast<Vec::Floats>(std::bit_cast<Vec::Ints>(a.v) & 0x7fffffff);
}
inline Vec neg(Vec a) {
  return -a.v;
}
inline Vec sqrt(Vec a) {
  for (int i = 0; i < Vec::lanes; ++i) a.v[i] = std::sqrt(a.v[i]);
  return a;
}
inline Mask less(Vec a, Vec b) {
  return {a.v < b.v};
}
inline Mask is_nan(Vec a) {
  return {a.v != a.v};
}
inline Vec select(Mask m, Vec a, Vec b) {
  return m.m ? a.v : b.v;
}
inline float sum(Vec a) {
  return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
}
/// The largest lane; unspecified if one is NaN.
inline float max_of(Vec a) {
  const float low = a.v[0] > a.v[1] ? a.v[0] : a.v[1];
  const float high = a.v[2] > a.v[3] ? a.v[2] : a.v[3];
  return low > high ? low : high;
}

/// a * 2^n for integral n in [-252, 254], rounded once where the result is subnormal.
inline Vec scale_by_power(Vec a, Vec n) {
  const Vec::Ints whole = __builtin_convertvector(n.v, Vec::Ints);
  const Vec::Ints half = whole >> 1;
  const auto power = [](Vec::Ints exponent) {
    return Vec(std::bit_cast<Vec::Floats>((exponent + 127) << 23));
  };
  return a * power(half) * power(whole - half);
}

/// m in [sqrt(1/2), sqrt(2)) and an integral exponent with a = m * 2^exponent, for positive normal a.
inline Vec split_exponent(Vec a, Vec& exponent) {
  const Vec::Ints bits = std::bit_cast<Vec::Ints>(a.v);
  const Vec::Ints e = (bits - 0x3f3504f3) >> 23;
  exponent = __builtin_convertvector(e, Vec::Floats);
  return std::bit_cast<Vec::Floats>(bits - (e << 23));
}

/// rows[i][j] becomes rows[j][i], for as many rows as there are lanes.
inline void transpose(Vec* rows) {
  for (int i = 0; i < Vec::lanes; ++i)
    for (int j = 0; j < i; ++j) {
      const float kept = rows[i].v[j];
      rows[i].v[j] = rows[j].v[i];
      rows[j].v[i] = kept;
    }
}

/// a with the lower half of its significand cleared: its square is exact.
inline Vec upper_bits(Vec a) {
  return std::bit_cast<Vec::Floats>(std::bit_cast<Vec::Ints>(a.v) & -4096);
}

}  // namespace orion::cpu::portable
