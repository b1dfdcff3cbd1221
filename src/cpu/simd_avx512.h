// Sixteen floats in an AVX-512 register. See simd_portable.h for what each operation promises. Compiled with
// and without the dot products of bfloat16 and bytes (AVX512-BF16, AVX512-VNNI), with them and with matrix
// tiles (AMX-BF16), under names of their own.
#pragma once

#include <immintrin.h>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace orion::cpu::avx512 {

#if defined(__AMX_BF16__)
inline namespace with_tiles {
#elif defined(__AVX512BF16__) && defined(__AVX512VNNI__)
inline namespace with_dots {
#else
inline namespace without_dots {
#endif

// The masked forms with a full mask are the plain instructions; GCC's header for the plain ones passes an
// uninitialised operand, which it then warns about.
inline constexpr __mmask16 every = 0xffff;

struct Words;
struct MatrixTiles;

struct Vec {
  using Integers = Words;
  using Tiles = MatrixTiles;
  static constexpr int lanes = 16;
  static constexpr bool streams = true;
  static constexpr int tile_rows = 14;  // 14 x 2 accumulators, 2 of B, 1 spare: 31 of 32 registers
  static constexpr int tile_vectors = 2;
  static constexpr int vector_accumulators = 16;
  static constexpr int group_rows = 6;  // 6 x 2 sums of integers, 6 x 2 of floats, 2 of the panel, 1 of x
  static constexpr int group_vectors = 2;
  static constexpr bool multiplies_nibbles = true;
  static constexpr bool sums_nibble_pairs = false;
#if defined(__AMX_BF16__)
  static constexpr bool multiplies_tiles = true;
  static constexpr std::int64_t stream_ahead = 8192;  // Intel's cores: 1.1 to 1.4 times faster than without
#else
  static constexpr bool multiplies_tiles = false;
  static constexpr std::int64_t stream_ahead = 0;  // AMD's: slower with it
#endif
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
  static constexpr bool dots_pairs = true;
  static constexpr int dot_bias = 128;
  static constexpr bool multiplies_bytes = true;
#else
  static constexpr bool dots_pairs = false;
  static constexpr int dot_bias = 0;
  static constexpr bool multiplies_bytes = false;
#endif

  __m512 v;

  Vec() = default;
  Vec(__m512 from) : v(from) {}
  explicit Vec(float from) : v(_mm512_set1_ps(from)) {}

  static Vec load(const float* p) { return _mm512_loadu_ps(p); }
  static Vec load(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static Vec load(const std::uint16_t* p) {
    return _mm512_maskz_cvtph_ps(every, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const std::uint16_t* p, int n) {
    return _mm512_maskz_cvtph_ps(every, _mm256_maskz_loadu_epi16(first(n), p));
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  void store(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store(std::uint16_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves()); }
  void store(std::uint16_t* p, int n) const { _mm256_mask_storeu_epi16(p, first(n), halves()); }
  void store(std::int8_t* p) const {
    const __m512i words = _mm512_maskz_cvtps_epi32(every, v);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(every, words));
  }

 private:
  static __mmask16 first(int n) { return static_cast<__mmask16>((1U << n) - 1U); }
  __m256i halves() const {
    return _mm512_maskz_cvtps_ph(every, v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
};

struct Mask {
  __mmask16 m;
};

inline Vec operator+(Vec a, Vec b) {
  return _mm512_add_ps(a.v, b.v);
}
inline Vec operator-(Vec a, Vec b) {
  return _mm512_sub_ps(a.v, b.v);
}
inline Vec operator*(Vec a, Vec b) {
  return _mm512_mul_ps(a.v, b.v);
}
inline Vec operator/(Vec a, Vec b) {
  return _mm512_div_ps(a.v, b.v);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a.v, b.v, c.v);
}
inline Vec max(Vec a, Vec b) {
  return _mm512_maskz_max_ps(every, a.v, b.v);
}
inline Vec min(Vec a, Vec b) {
  return _mm512_maskz_min_ps(every, a.v, b.v);
}
inline Vec sqrt(Vec a) {
  return _mm512_maskz_sqrt_ps(every, a.v);
}
inline Vec abs(Vec a) {
  return _mm512_abs_ps(a.v);
}
inline Vec neg(Vec a) {
  return _mm512_maskz_xor_ps(every, a.v, _mm512_set1_ps(-0.0F));
}
inline Mask less(Vec a, Vec b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
inline Mask is_nan(Vec a) {
  return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)};
}
inline Vec select(Mask m, Vec a, Vec b) {
  return _mm512_mask_blend_ps(m.m, b.v, a.v);
}
inline __m256 lower(Vec a) {
  return _mm512_maskz_extractf32x8_ps(0xff, a.v, 0);
}
inline __m256 upper(Vec a) {
  return _mm512_maskz_extractf32x8_ps(0xff, a.v, 1);
}
inline float sum(Vec a) {
  const __m256 eight = _mm256_add_ps(lower(a), upper(a));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float max_of(Vec a) {
  const __m256 eight = _mm256_max_ps(lower(a), upper(a));
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline Vec scale_by_power(Vec a, Vec n) {
  return _mm512_maskz_scalef_ps(every, a.v, n.v);
}

inline Vec split_exponent(Vec a, Vec& exponent) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i e = _mm512_maskz_srai_epi32(every, _mm512_sub_epi32(bits, _mm512_set1_epi32(0x3f3504f3)), 23);
  exponent = _mm512_maskz_cvtepi32_ps(every, e);
  return _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_maskz_slli_epi32(every, e, 23)));
}

inline Vec upper_bits(Vec a) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(-4096)));
}

// -- pairs of bfloat16 ----------------------------------------------------------------------------

inline Vec lower_halves(Vec pairs) {
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(every, _mm512_castps_si512(pairs.v), 16));
}
inline Vec upper_halves(Vec pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs.v), _mm512_set1_epi32(-65536)));
}

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
inline Vec round_to_bfloat(Vec a) {
  const __m256i halves = std::bit_cast<__m256i>(_mm512_cvtneps_pbh(a.v));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(every, _mm512_maskz_cvtepu16_epi32(every, halves), 16));
}
inline Vec dot_pairs(Vec a, Vec b, Vec sum) {
  return _mm512_dpbf16_ps(sum.v, std::bit_cast<__m512bh>(a.v), std::bit_cast<__m512bh>(b.v));
}
inline Vec pairs_of_neighbours(Vec first, Vec second) {
  return std::bit_cast<__m512>(_mm512_cvtne2ps_pbh(second.v, first.v));
}
inline Vec pairs_of(Vec lower, Vec upper) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                         22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto halves = std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(upper.v, lower.v));
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xffffffffU, order, halves));
}
#else
inline Vec round_to_bfloat(Vec a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(every, bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return select(is_nan(a), a + a, upper_halves(_mm512_castsi512_ps(up)));
}
#endif

// -- bytes ----------------------------------------------------------------------------------------

struct Words {
  __m512i v;

  Words() = default;
  Words(__m512i from) : v(from) {}
  explicit Words(std::int32_t from) : v(_mm512_set1_epi32(from)) {}
  static Words load(const std::byte* p) { return _mm512_loadu_si512(p); }
};

inline Vec to_floats(Words a) {
  return _mm512_maskz_cvtepi32_ps(every, a.v);
}
template <int Bits>
Words shift_down(Words a) {
  return _mm512_maskz_srli_epi32(every, a.v, Bits);
}
inline Words operator&(Words a, Words b) {
  return _mm512_and_si512(a.v, b.v);
}

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
inline Words dot_bytes(Words sum, Words w, Words x) {
  return _mm512_dpbusd_epi32(sum.v, w.v, x.v);
}
inline Words dot_nibbles(Words sum, Words w, Words x) {
  return _mm512_dpbusd_epi32(sum.v, w.v, x.v);
}
#else
inline Words dot_nibbles(Words sum, Words w, Words x) {
  const __m512i pairs = _mm512_maddubs_epi16(w.v, x.v);
  return _mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
// w's sign goes over to x: 127 * 127 twice fits 16 bits, 255 * 127 twice does not.
inline Words dot_bytes(Words sum, Words w, Words x) {
  const __m512i centred = _mm512_xor_si512(w.v, _mm512_set1_epi8(-128));
  const __m512i turned = _mm512_mask_sub_epi8(x.v, _mm512_movepi8_mask(centred), _mm512_setzero_si512(), x.v);
  return dot_nibbles(sum, _mm512_abs_epi8(centred), turned);
}
#endif

// -- matrix tiles ---------------------------------------------------------------------------------

#if defined(__AMX_BF16__)
/// Eight registers, each of 16 rows of 64 bytes. In assembly, as GCC takes their numbers from the source text
/// and does not know that memory is read. A thread that uses them has one of these meanwhile.
struct MatrixTiles {
  MatrixTiles() {
    alignas(64) static constexpr struct {
      std::uint8_t palette = 1, first_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    asm volatile("ldtilecfg %0" : : "m"(shape));
  }
  ~MatrixTiles() { asm volatile("tilerelease"); }
  MatrixTiles(const MatrixTiles&) = delete;
  MatrixTiles& operator=(const MatrixTiles&) = delete;

  template <int T>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  static void load(const float* from, std::int64_t row) {
    asm volatile("tileloadd (%0,%1,4), %%tmm%c2" : : "r"(from), "r"(row), "i"(T) : "memory");
  }
  template <int T>
  static void store(float* to, std::int64_t row) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,4)" : : "r"(to), "r"(row), "i"(T) : "memory");
  }
  /// Sum += A B, where A has rows of pairs of inputs and B a row for each such pair.
  template <int Sum, int A, int B>
  static void add_products() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }
};
#endif

// Four by four inside the quarters of a register, then the quarters change places.
inline void transpose(Vec* rows) {
  __m512 t[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512 low0 = _mm512_maskz_unpacklo_ps(every, rows[i].v, rows[i + 1].v);
    const __m512 high0 = _mm512_maskz_unpackhi_ps(every, rows[i].v, rows[i + 1].v);
    const __m512 low1 = _mm512_maskz_unpacklo_ps(every, rows[i + 2].v, rows[i + 3].v);
    const __m512 high1 = _mm512_maskz_unpackhi_ps(every, rows[i + 2].v, rows[i + 3].v);
    t[i] = _mm512_maskz_shuffle_ps(every, low0, low1, 0x44);
    t[i + 1] = _mm512_maskz_shuffle_ps(every, low0, low1, 0xee);
    t[i + 2] = _mm512_maskz_shuffle_ps(every, high0, high1, 0x44);
    t[i + 3] = _mm512_maskz_shuffle_ps(every, high0, high1, 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 even0 = _mm512_maskz_shuffle_f32x4(every, t[i], t[i + 4], 0x88);
    const __m512 odd0 = _mm512_maskz_shuffle_f32x4(every, t[i], t[i + 4], 0xdd);
    const __m512 even1 = _mm512_maskz_shuffle_f32x4(every, t[i + 8], t[i + 12], 0x88);
    const __m512 odd1 = _mm512_maskz_shuffle_f32x4(every, t[i + 8], t[i + 12], 0xdd);
    rows[i].v = _mm512_maskz_shuffle_f32x4(every, even0, even1, 0x88);
    rows[i + 8].v = _mm512_maskz_shuffle_f32x4(every, even0, even1, 0xdd);
    rows[i + 4].v = _mm512_maskz_shuffle_f32x4(every, odd0, odd1, 0x88);
    rows[i + 12].v = _mm512_maskz_shuffle_f32x4(every, odd0, odd1, 0xdd);
  }
}

}  // namespace
}  // namespace orion::cpu::avx512
