// Elementary functions on vectors, written once for every vector type V. Infinities, NaN, overflow and
// gradual underflow behave as in <cmath>; the largest errors measured are in tests/cpp/test_kernels.cpp.
// Polynomials: minimax in relative error by iteratively reweighted least squares, rounded to float.
#pragma once

namespace orion::cpu {

/// c0 + x (c1 + x (c2 + ...))
template <class V, class... Rest>
V polynomial(V x, float c0, Rest... rest) {
  if constexpr (sizeof...(rest) == 0)
    return V(c0);
  else
    return fma(polynomial(x, rest...), x, V(c0));
}

inline constexpr std::int64_t cache_line = 64;

/// Fetches what lies V::stream_ahead bytes behind a piece of what is read once, in order. Always inlined, see
/// fetch_row.
template <class V, std::int64_t bytes>
[[gnu::always_inline]] inline void fetch_stream(const void* piece) {
  if constexpr (V::stream_ahead > 0)
#pragma GCC unroll 32
    for (std::int64_t at = 0; at < bytes; at += cache_line)
      __builtin_prefetch(static_cast<const std::byte*>(piece) + V::stream_ahead + at, 0, 2);
}

/// A vector to memory, past the caches if it `streams` and the machine can; p is aligned to vectors then.
template <class V>
void put(V value, float* p, bool streams) {
  if constexpr (V::streams)
    if (streams) return value.stream(p);
  value.store(p);
}

/// The same for n lanes, of which only whole vectors pass the caches by.
template <class V>
void put(V value, float* p, int n, bool streams) {
  n == V::lanes ? put(value, p, streams) : value.store(p, n);
}

/// Up to two vectors as bfloat16; n is even.
template <class V>
void store_rounded(V first, V second, std::uint16_t* to, int n, bool streams) {
  if constexpr (V::dots_pairs) {
    put(pairs_of_neighbours(first, second), reinterpret_cast<float*>(to), n / 2, streams);
  } else {
    std::uint32_t bits[2 * V::lanes];
    round_to_bfloat(first).store(reinterpret_cast<float*>(bits));
    round_to_bfloat(second).store(reinterpret_cast<float*>(bits + V::lanes));
    for (int i = 0; i < n; ++i) to[i] = static_cast<std::uint16_t>(bits[i] >> 16);
  }
}

/// Row elements [0, cols), given by value(first, count) for up to V::lanes at once; cols is even.
template <class V, class F>
void store_rounded(const F& value, std::int64_t cols, std::uint16_t* to, bool streams) {
  for (std::int64_t j = 0; j < cols; j += 2 * V::lanes) {
    const int n = static_cast<int>(cols - j < 2 * V::lanes ? cols - j : 2 * V::lanes);
    if (n <= V::lanes)
      store_rounded(value(j, n), V(0.0F), to + j, n, streams);
    else
      store_rounded(value(j, V::lanes), value(j + V::lanes, n - V::lanes), to + j, n, streams);
  }
}

/// To the nearest integer, ties to even, for |x| < 2^22: the sum has no bits left for a fraction.
template <class V>
V nearest(V x) {
  const V shift(0x1.8p23F);
  return (x + shift) - shift;
}

/// exp(x + low) for a small correction `low`.
template <class V>
V exp_of(V x, V low) {
  // Beyond these the result is infinity or zero; min and max keep a NaN that is their second operand.
  const V bounded = max(V(-105.0F), min(V(89.0F), x));
  const V n = nearest(bounded * V(0x1.715476p+0F));
  // log(2) in two parts; the first has few enough bits for n times it to be exact.
  const V r = fma(n, V(0x1.bd0106p-13F), fma(n, V(-0x1.63p-1F), bounded) + low);
  const V p =
      polynomial(r, 0x1p-1F, 0x1.555554p-3F, 0x1.555486p-5F, 0x1.11128p-7F, 0x1.6d945cp-10F, 0x1.9f02dp-13F);
  return scale_by_power(fma(r * r, p, r) + V(1.0F), n);
}

template <class V>
V exp_of(V x) {
  return exp_of(x, V(0.0F));
}

/// exp(x) for the weights of a softmax: 0 where the result would be subnormal. Processors are slow at
/// those, and the -infinity of every hidden key would pass through them.
template <class V>
V weight_of(V x) {
  const V lowest(-87.0F);
  return select(less(x, lowest), V(0.0F), exp_of(max(lowest, x)));
}

template <class V>
V log_of(V x) {
  const V smallest_normal(0x1p-126F);
  const auto subnormal = less(x, smallest_normal);
  V e;
  const V f = split_exponent(select(subnormal, x * V(0x1p23F), x), e) - V(1.0F);
  e = select(subnormal, e - V(23.0F), e);
  const V p = polynomial(f, 0x1.555548p-2F, -0x1.000006p-2F, 0x1.99a4b6p-3F, -0x1.555c4ep-3F, 0x1.23376p-3F,
                         -0x1.fc220ep-4F, 0x1.e6f08cp-4F, -0x1.de3bfap-4F, 0x1.14573ep-4F);
  const V square = f * f;
  // log(1 + f) = f - f^2 / 2 + f^3 p(f), smallest terms first.
  const V tail = fma(e, V(-0x1.bd0106p-13F), fma(square, V(-0.5F), f * square * p));
  const V finite = fma(e, V(0x1.63p-1F), f + tail);
  const V infinity(__builtin_inff());
  const V positive = select(less(x, infinity), finite, x);  // infinity and NaN are their own logarithm
  const V not_negative = select(less(V(0.0F), x), positive, select(is_nan(x), x, neg(infinity)));
  return select(less(x, V(0.0F)), V(__builtin_nanf("")), not_negative);
}

template <class V>
V tanh_of(V x) {
  const V z = abs(x);
  const V square = x * x;
  const V small = fma(
      x * square,
      polynomial(square, -0x1.555532p-2F, 0x1.110726p-3F, -0x1.b83c5ap-5F, 0x1.52269ep-6F, -0x1.75e1dcp-8F),
      x);
  const V large = V(1.0F) - V(2.0F) / (exp_of(z + z) + V(1.0F));
  return select(less(z, V(0.625F)), small, select(less(x, V(0.0F)), neg(large), large));
}

template <class V>
V sigmoid_of(V x) {
  const V e = exp_of(neg(abs(x)));
  return select(less(x, V(0.0F)), e, V(1.0F)) / (V(1.0F) + e);
}

/// exp(-scale x^2) for a power of two `scale`. The square comes in two parts, the first exact: half a unit
/// of error in it would be x^2 times as much in the result.
template <class V>
V gaussian(V x, float scale) {
  const V bounded = min(V(16.0F), abs(x));
  const V upper = upper_bits(bounded);
  const V rest = (bounded - upper) * (bounded + upper);
  return exp_of(V(-scale) * (upper * upper), V(-scale) * rest);
}

/// erfc(z) / exp(-z^2) for z >= 0: a polynomial in 1 / (1 + 0.4 z).
template <class V>
V scaled_erfc(V z) {
  const V t = V(1.0F) / fma(z, V(0.4F), V(1.0F));
  return t * polynomial(t, 0x1.ce3eb8p-3F, 0x1.ccc16cp-3F, 0x1.b7b4fap-3F, 0x1.0bac32p-3F, 0x1.1392dep-2F,
                        -0x1.1d8f68p-2F, 0x1.14e6bcp-1F, -0x1.f9b49ep-2F, 0x1.913682p-3F, -0x1.de837cp-6F);
}

template <class V>
V erf_of(V x) {
  const V z = abs(x);
  const V square = x * x;
  const V small = x * polynomial(square, 0x1.20dd74p+0F, -0x1.81273ep-2F, 0x1.ce2cf8p-4F, -0x1.b7f912p-6F,
                                 0x1.5405cep-8F, -0x1.a3f7b8p-11F, 0x1.496bf4p-14F);
  const V large = V(1.0F) - scaled_erfc(z) * gaussian(z, 1.0F);
  return select(less(z, V(1.0F)), small, select(less(x, V(0.0F)), neg(large), large));
}

/// x Phi(x), with Phi(-z) = erfc(z / sqrt(2)) / 2 so that the tail keeps its relative accuracy.
template <class V>
V normal_probability(V x) {
  const V tail = V(0.5F) * scaled_erfc(abs(x) * V(0x1.6a09e6p-1F)) * gaussian(x, 0.5F);
  return select(less(x, V(0.0F)), tail, V(1.0F) - tail);
}

template <class V>
V gelu_erf_of(V x) {
  return x * normal_probability(x);
}

/// 0.5 x (1 + tanh(u)) = x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
template <class V>
V gelu_tanh_of(V x) {
  return x * sigmoid_of(V(0x1.988454p+0F) * fma(x * x * x, V(0.044715F), x));
}

template <class V>
V gelu_sigmoid_of(V x) {
  return x * sigmoid_of(V(1.702F) * x);
}

template <class V>
V silu_of(V x) {
  return x * sigmoid_of(x);
}

// Derivatives of x p(x): p + x p'(x). Beyond +-20 p is 0 or 1 for good, and powers of x would overflow.
template <class V>
V bounded(V x) {
  return min(V(20.0F), max(V(-20.0F), x));
}

template <class V>
V gelu_erf_slope(V x) {
  const V b = bounded(x);
  return normal_probability(x) + b * V(0.39894228F) * gaussian(b, 0.5F);
}

template <class V>
V gelu_tanh_slope(V x) {
  const V b = bounded(x);
  const V p = sigmoid_of(V(0x1.988454p+0F) * fma(b * b * b, V(0.044715F), b));
  return p + b * (p * (V(1.0F) - p)) * (V(0x1.988454p+0F) * fma(b * b, V(3.0F * 0.044715F), V(1.0F)));
}

template <class V>
V gelu_sigmoid_slope(V x) {
  const V b = bounded(x);
  const V p = sigmoid_of(V(1.702F) * b);
  return p + V(1.702F) * b * (p * (V(1.0F) - p));
}

template <class V>
V silu_slope(V x) {
  const V s = sigmoid_of(x);
  const V b = min(V(200.0F), max(V(-200.0F), x));
  return s + b * (s * (V(1.0F) - s));
}

template <class V>
V relu_of(V x) {
  return max(V(0.0F), x);
}

}  // namespace orion::cpu
