// Four floats in the compiler's own vector type: what the kernels run on where nothing better is known,
// and the description of what every vector type here offers.
#pragma once

#include "base/f16.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace orion::cpu::portable {

struct Words;

struct Vec {
  using Integers = Words;  ///< as many, of 32 bits
  using Floats [[gnu::vector_size(16)]] = float;
  using Ints [[gnu::vector_size(16)]] = std::int32_t;

  static constexpr int lanes = 4;
  /// The register tile of matrix products: rows of A, and vectors of B (one panel holds a whole number).
  static constexpr int tile_rows = 4;
  static constexpr int tile_vectors = 2;
  /// Sums kept in flight by matrix-vector products.
  static constexpr int vector_accumulators = 8;
  /// Whether there are dot_pairs (a, b, sum) = sum + a.lower * b.lower + a.upper * b.upper,
  /// pairs_of_neighbours (first, second), the floats of both in order, two in a lane, and pairs_of (lower,
  /// upper), rounded to nearest even.
  static constexpr bool dots_pairs = false;
  /// Whether there are Tiles, registers of whole matrices that multiply such pairs (simd_avx512.h).
  static constexpr bool multiplies_tiles = false;
  /// Bytes that a stream of weights is fetched ahead by software, 0 where the processor sees to it.
  static constexpr std::int64_t stream_ahead = 0;
  /// Whether there is a stream() that passes the caches by.
  static constexpr bool streams = false;
  /// What products of bytes leave to be taken off: they give sum + (w - 128 + dot_bias) x.
  static constexpr int dot_bias = 0;
  /// The register tile of products with matrices in groups: rows, and vectors of a panel.
  static constexpr int group_rows = 4;
  static constexpr int group_vectors = 1;
  /// Whether, for many rows, their dot products are faster than expanding 8 or 4 bits to floats or pairs.
  static constexpr bool multiplies_bytes = false;
  static constexpr bool multiplies_nibbles = false;
  /// Whether the products of a group are those of half bytes, summed in 16 bits by add_nibble_pairs: eight
  /// times 2 * 15 * 127 fits. There are sum_of_pairs<factor> (start, pairs), and no dot_bytes or dot_nibbles.
  static constexpr bool sums_nibble_pairs = false;

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
  /// All lanes, whole numbers from -127 to 127; what is not finite becomes some byte.
  void store(std::int8_t* p) const {
    constexpr float shift = 12582912.0F;  // 1.5 * 2^23 leaves them in the lowest bits
    for (int i = 0; i < lanes; ++i)
      p[i] = static_cast<std::int8_t>(std::bit_cast<std::int32_t>(v[i] + shift));
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

/// A lane holds two bfloat16; either of them as a float.
inline Vec lower_halves(Vec pairs) {
  using Bits [[gnu::vector_size(16)]] = std::uint32_t;
  return std::bit_cast<Vec::Floats>(std::bit_cast<Bits>(pairs.v) << 16);
}
inline Vec upper_halves(Vec pairs) {
  return std::bit_cast<Vec::Floats>(std::bit_cast<Vec::Ints>(pairs.v) & -65536);
}
/// To nearest, ties to even; NaN stays NaN.
inline Vec round_to_bfloat(Vec a) {
  for (int i = 0; i < Vec::lanes; ++i) a.v[i] = bfloat_to_float(float_to_bfloat(a.v[i]));
  return a;
}

/// As many 32-bit words as a vector has lanes, each one number or four bytes.
struct Words {
  Vec::Ints v;

  Words() = default;
  Words(Vec::Ints from) : v(from) {}
  explicit Words(std::int32_t from) : v{from, from, from, from} {}
  static Words load(const std::byte* p) {
    Words words;
    std::memcpy(&words.v, p, sizeof(words.v));
    return words;
  }
};

inline Vec to_floats(Words a) {
  return __builtin_convertvector(a.v, Vec::Floats);
}
/// Logical.
template <int Bits>
Words shift_down(Words a) {
  return (a.v >> Bits) & static_cast<std::int32_t>(~0U >> Bits);
}
inline Words operator&(Words a, Words b) {
  return a.v & b.v;
}
/// In each lane sum + the four products of w's bytes (0 to 255) less `offset` with x's (-127 to 127). Two
/// products of at most 128 * 127 fit 16 bits.
inline Words dot_less(Words sum, Words w, Words x, std::int16_t offset) {
  using Shorts [[gnu::vector_size(16)]] = std::int16_t;
  const auto a = std::bit_cast<Shorts>(w.v), b = std::bit_cast<Shorts>(x.v);
  const Shorts upper = (((a >> 8) & 0xff) - offset) * (b >> 8);
  const auto both = std::bit_cast<Vec::Ints>(upper + ((a & 0xff) - offset) * ((b << 8) >> 8));
  return sum.v + (both >> 16) + ((both << 16) >> 16);
}
/// See dot_bias.
inline Words dot_bytes(Words sum, Words w, Words x) {
  return dot_less(sum, w, x, 128);
}
/// w's bytes are 0 to 15 and taken as they are.
inline Words dot_nibbles(Words sum, Words w, Words x) {
  return dot_less(sum, w, x, 0);
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
