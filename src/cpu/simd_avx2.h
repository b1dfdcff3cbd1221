// Eight floats in an AVX2 register. See simd_portable.h for what each operation promises.
#pragma once

#include <immintrin.h>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace orion::cpu::avx2 {

struct Words;

struct Vec {
  using Integers = Words;
  static constexpr int lanes = 8;
  static constexpr bool streams = true;
  static constexpr int tile_rows = 6;  // 6 x 2 accumulators, 2 of B, 1 broadcast: 15 of 16 registers
  static constexpr int tile_vectors = 2;
  static constexpr int vector_accumulators = 8;
  static constexpr bool dots_pairs = false;
  static constexpr bool multiplies_tiles = false;
  static constexpr std::int64_t stream_ahead = 0;
  static constexpr int dot_bias = 128;
  static constexpr int group_rows = 6;
  static constexpr int group_vectors = 1;
  static constexpr bool multiplies_bytes = true;
  static constexpr bool multiplies_nibbles = true;
  static constexpr bool sums_nibble_pairs = true;

  __m256 v;

  Vec() = default;
  Vec(__m256 from) : v(from) {}
  explicit Vec(float from) : v(_mm256_set1_ps(from)) {}

  static Vec load(const float* p) { return _mm256_loadu_ps(p); }
  static Vec load(const float* p, int n) {
    return n == lanes ? load(p) : Vec(_mm256_maskload_ps(p, first(n)));
  }
  static Vec load(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load(const std::uint16_t* p, int n) {
    if (n == lanes) return load(p);
    alignas(16) std::uint16_t part[lanes] = {};
    std::memcpy(part, p, static_cast<std::size_t>(n) * sizeof(*p));
    return load(part);
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  void store(float* p, int n) const { n == lanes ? store(p) : _mm256_maskstore_ps(p, first(n), v); }
  void store(std::uint16_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  void store(std::uint16_t* p, int n) const {
    if (n == lanes) return store(p);
    alignas(16) std::uint16_t part[lanes];
    store(part);
    std::memcpy(p, part, static_cast<std::size_t>(n) * sizeof(*p));
  }
  void store(std::int8_t* p) const {
    const __m256i words = _mm256_cvtps_epi32(v);
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
  }

 private:
  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

struct Mask {
  __m256 m;
};

inline Vec operator+(Vec a, Vec b) {
  return _mm256_add_ps(a.v, b.v);
}
inline Vec operator-(Vec a, Vec b) {
  return _mm256_sub_ps(a.v, b.v);
}
inline Vec operator*(Vec a, Vec b) {
  return _mm256_mul_ps(a.v, b.v);
}
inline Vec operator/(Vec a, Vec b) {
  return _mm256_div_ps(a.v, b.v);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a.v, b.v, c.v);
}
inline Vec max(Vec a, Vec b) {
  return _mm256_max_ps(a.v, b.v);
}
inline Vec min(Vec a, Vec b) {
  return _mm256_min_ps(a.v, b.v);
}
inline Vec sqrt(Vec a) {
  return _mm256_sqrt_ps(a.v);
}
inline Vec abs(Vec a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a.v);
}
inline Vec neg(Vec a) {
  return _mm256_xor_ps(a.v, _mm256_set1_ps(-0.0F));
}
inline Mask less(Vec a, Vec b) {
  return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)};
}
inline Mask is_nan(Vec a) {
  return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)};
}
inline Vec select(Mask m, Vec a, Vec b) {
  return _mm256_blendv_ps(b.v, a.v, m.m);
}

inline float sum(Vec a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

inline float max_of(Vec a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// 2^n needs n in [-126, 127], and the result's n may be twice that: two factors.
inline Vec scale_by_power(Vec a, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i low = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i high = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return a * Vec(_mm256_castsi256_ps(low)) * Vec(_mm256_castsi256_ps(high));
}

inline Vec split_exponent(Vec a, Vec& exponent) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i e = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
  exponent = _mm256_cvtepi32_ps(e);
  return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23)));
}

inline Vec upper_bits(Vec a) {
  return _mm256_and_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-4096)));
}

inline Vec lower_halves(Vec pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs.v), 16));
}
inline Vec upper_halves(Vec pairs) {
  return _mm256_and_ps(pairs.v, _mm256_castsi256_ps(_mm256_set1_epi32(-65536)));
}
inline Vec round_to_bfloat(Vec a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return select(is_nan(a), a + a, upper_halves(_mm256_castsi256_ps(up)));
}

struct Words {
  __m256i v;

  Words() = default;
  Words(__m256i from) : v(from) {}
  explicit Words(std::int32_t from) : v(_mm256_set1_epi32(from)) {}
  static Words load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
};

inline Vec to_floats(Words a) {
  return _mm256_cvtepi32_ps(a.v);
}
template <int Bits>
Words shift_down(Words a) {
  return _mm256_srli_epi32(a.v, Bits);
}
inline Words operator&(Words a, Words b) {
  return _mm256_and_si256(a.v, b.v);
}
/// Sums in the order of the program: compilers add integers up in trees, which take more registers than
/// there are.
inline Words in_order(__m256i sum) {
  asm("" : "+x"(sum));
  return sum;
}
inline Words add_nibble_pairs(Words sums, Words w, Words x) {
  return in_order(_mm256_add_epi16(sums.v, _mm256_maddubs_epi16(w.v, x.v)));
}
template <int Factor>
Words sum_of_pairs(Words start, Words pairs) {
  return _mm256_add_epi32(start.v, _mm256_madd_epi16(pairs.v, _mm256_set1_epi16(Factor)));
}

// Four by four inside the halves of a register, then the halves change places.
inline void transpose(Vec* rows) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256 low0 = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    const __m256 high0 = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    const __m256 low1 = _mm256_unpacklo_ps(rows[i + 2].v, rows[i + 3].v);
    const __m256 high1 = _mm256_unpackhi_ps(rows[i + 2].v, rows[i + 3].v);
    t[i] = _mm256_shuffle_ps(low0, low1, 0x44);
    t[i + 1] = _mm256_shuffle_ps(low0, low1, 0xee);
    t[i + 2] = _mm256_shuffle_ps(high0, high1, 0x44);
    t[i + 3] = _mm256_shuffle_ps(high0, high1, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
  }
}

}  // namespace orion::cpu::avx2
