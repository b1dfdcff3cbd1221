// Four floats in a NEON register (aarch64). See simd_portable.h for what each operation promises. Compiled
// with and without the dot products of bfloat16 and bytes (Armv8.6's BF16 and DotProd), under names of their
// own.
#pragma once

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace orion::cpu::neon {

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && defined(__ARM_FEATURE_DOTPROD)
inline namespace with_dots {
#else
inline namespace without_dots {
#endif

struct Words;

struct Vec {
  using Integers = Words;
  static constexpr int lanes = 4;
  static constexpr bool streams = false;
  static constexpr int tile_rows = 6;  // 6 x 4 accumulators, 4 of B, up to 4 of A: 32 registers
  static constexpr int tile_vectors = 4;
  static constexpr int vector_accumulators = 16;
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && defined(__ARM_FEATURE_DOTPROD)
  static constexpr bool dots_pairs = true;
#else
  static constexpr bool dots_pairs = false;
#endif
  static constexpr int dot_bias = 0;
#if defined(__ARM_FEATURE_DOTPROD)
  static constexpr bool multiplies_bytes = true;
#else
  static constexpr bool multiplies_bytes = false;
#endif
  static constexpr bool multiplies_nibbles = multiplies_bytes;
  static constexpr bool sums_nibble_pairs = false;
  static constexpr bool multiplies_tiles = false;
  static constexpr std::int64_t stream_ahead = 0;
  static constexpr int group_rows = 4;
  static constexpr int group_vectors = 4;

  float32x4_t v;

  Vec() = default;
  Vec(float32x4_t from) : v(from) {}
  explicit Vec(float from) : v(vdupq_n_f32(from)) {}

  static Vec load(const float* p) { return vld1q_f32(p); }
  static Vec load(const float* p, int n) { return n == lanes ? load(p) : load(Part<float>(p, n).at); }
  static Vec load(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
  static Vec load(const std::uint16_t* p, int n) {
    return n == lanes ? load(p) : load(Part<std::uint16_t>(p, n).at);
  }
  void store(float* p) const { vst1q_f32(p, v); }
  void store(float* p, int n) const { store_part(p, n); }
  void store(std::uint16_t* p) const { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
  void store(std::uint16_t* p, int n) const { store_part(p, n); }
  void store(std::int8_t* p) const {
    const int16x4_t halves = vmovn_s32(vcvtq_s32_f32(v));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    vst1_lane_s32(reinterpret_cast<std::int32_t*>(p), vreinterpret_s32_s8(bytes), 0);
  }

 private:
  template <class T>
  struct Part {
    T at[lanes] = {};
    Part(const T* p, int n) { std::memcpy(at, p, static_cast<std::size_t>(n) * sizeof(T)); }
  };
  template <class T>
  void store_part(T* p, int n) const {
    if (n == lanes) return store(p);
    T part[lanes];
    store(part);
    std::memcpy(p, part, static_cast<std::size_t>(n) * sizeof(T));
  }
};

struct Mask {
  uint32x4_t m;
};

inline Vec operator+(Vec a, Vec b) {
  return vaddq_f32(a.v, b.v);
}
inline Vec operator-(Vec a, Vec b) {
  return vsubq_f32(a.v, b.v);
}
inline Vec operator*(Vec a, Vec b) {
  return vmulq_f32(a.v, b.v);
}
inline Vec operator/(Vec a, Vec b) {
  return vdivq_f32(a.v, b.v);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return vfmaq_f32(c.v, a.v, b.v);
}
inline Vec max(Vec a, Vec b) {
  return vmaxq_f32(a.v, b.v);
}
inline Vec min(Vec a, Vec b) {
  return vminq_f32(a.v, b.v);
}
inline Vec sqrt(Vec a) {
  return vsqrtq_f32(a.v);
}
inline Vec abs(Vec a) {
  return vabsq_f32(a.v);
}
inline Vec neg(Vec a) {
  return vnegq_f32(a.v);
}
inline Mask less(Vec a, Vec b) {
  return {vcltq_f32(a.v, b.v)};
}
inline Mask is_nan(Vec a) {
  return {vmvnq_u32(vceqq_f32(a.v, a.v))};
}
inline Vec select(Mask m, Vec a, Vec b) {
  return vbslq_f32(m.m, a.v, b.v);
}
inline float sum(Vec a) {
  return vaddvq_f32(a.v);
}
inline float max_of(Vec a) {
  return vmaxvq_f32(a.v);
}

// 2^n needs n in [-126, 127], and the result's n may be twice that: two factors.
inline Vec scale_by_power(Vec a, Vec n) {
  const int32x4_t whole = vcvtq_s32_f32(n.v);
  const int32x4_t half = vshrq_n_s32(whole, 1);
  const int32x4_t bias = vdupq_n_s32(127);
  const int32x4_t low = vshlq_n_s32(vaddq_s32(half, bias), 23);
  const int32x4_t high = vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23);
  return a * Vec(vreinterpretq_f32_s32(low)) * Vec(vreinterpretq_f32_s32(high));
}

inline Vec split_exponent(Vec a, Vec& exponent) {
  const int32x4_t bits = vreinterpretq_s32_f32(a.v);
  const int32x4_t e = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
  exponent = vcvtq_f32_s32(e);
  return vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(e, 23)));
}

inline Vec upper_bits(Vec a) {
  return vreinterpretq_f32_s32(vandq_s32(vreinterpretq_s32_f32(a.v), vdupq_n_s32(-4096)));
}

inline Vec lower_halves(Vec pairs) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(pairs.v), 16));
}
inline Vec upper_halves(Vec pairs) {
  return vreinterpretq_f32_s32(vandq_s32(vreinterpretq_s32_f32(pairs.v), vdupq_n_s32(-65536)));
}
inline Vec round_to_bfloat(Vec a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a.v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  return select(is_nan(a), a + a, upper_halves(vreinterpretq_f32_u32(up)));
}

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && defined(__ARM_FEATURE_DOTPROD)
inline Vec dot_pairs(Vec a, Vec b, Vec sum) {
  return vbfdotq_f32(sum.v, vreinterpretq_bf16_f32(a.v), vreinterpretq_bf16_f32(b.v));
}
inline Vec pairs_of_neighbours(Vec first, Vec second) {
  return vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(first.v), second.v));
}
inline Vec pairs_of(Vec lower, Vec upper) {
  const uint16x8_t halves = vreinterpretq_u16_f32(pairs_of_neighbours(lower, upper).v);
  return vreinterpretq_f32_u16(vzip1q_u16(halves, vextq_u16(halves, halves, 4)));
}
#endif

struct Words {
  int32x4_t v;

  Words() = default;
  Words(int32x4_t from) : v(from) {}
  explicit Words(std::int32_t from) : v(vdupq_n_s32(from)) {}
  static Words load(const std::byte* p) {
    return vreinterpretq_s32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(p)));
  }
};

inline Vec to_floats(Words a) {
  return vcvtq_f32_s32(a.v);
}
template <int Bits>
Words shift_down(Words a) {
  if constexpr (Bits == 0)
    return a;  // the instruction shifts by at least one
  else
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v), Bits));
}
inline Words operator&(Words a, Words b) {
  return vandq_s32(a.v, b.v);
}
// Two products of at most 128 * 127 fit 16 bits.
inline Words dot_nibbles(Words sum, Words w, Words x) {
  const int8x16_t a = vreinterpretq_s8_s32(w.v), b = vreinterpretq_s8_s32(x.v);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sum.v, a, b);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
  return vpadalq_s16(sum.v, vpaddq_s16(low, vmull_high_s8(a, b)));
#endif
}
inline Words dot_bytes(Words sum, Words w, Words x) {
  return dot_nibbles(sum, veorq_s32(w.v, vdupq_n_s32(static_cast<std::int32_t>(0x80808080U))), x);
}

inline void transpose(Vec* rows) {
  const float32x4x2_t a = vtrnq_f32(rows[0].v, rows[1].v);
  const float32x4x2_t b = vtrnq_f32(rows[2].v, rows[3].v);
  rows[0].v = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
  rows[1].v = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
  rows[2].v = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
  rows[3].v = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}

}  // namespace
}  // namespace orion::cpu::neon
