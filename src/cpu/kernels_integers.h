// Products with matrices in groups of 8 or 4 bits in integer arithmetic, for a vector type V: activations are
// rounded to 8 bits group by group and packed by tiles of rows; a few rows are one tile.
#pragma once

#include "cpu/kernels_quantised.h"

namespace orion::cpu {

/// The activations of R rows that meet one group of a panel: four bytes (-127 to 127) a word, in order.
template <int R>
struct QuantisedRows {
  std::int32_t words[group_words][std::size_t{R}];
  float scale[std::size_t{R}];
  std::int32_t start[std::size_t{R}];  // of the sums: makes up for the offset of the panel's bytes
};

// -- rounding activations -------------------------------------------------------------------------

/// 32 floats rounded to 127 levels on either side of 0.
struct RoundedGroup {
  alignas(64) std::int8_t levels[group_inputs];
  float scale;
  std::int32_t sum;
};

/// What is smaller rounds to 0: its inverse might be infinite.
inline constexpr float least_magnitude = 1e-36F;

/// Nothing finite comes of what is not: a level that is NaN makes the scale NaN.
template <class V>
RoundedGroup round_activations(const float* x) {
  V largest(0.0F);
#pragma GCC unroll 8
  for (int i = 0; i < group_inputs; i += V::lanes) largest = max(largest, abs(V::load(x + i)));
  const float most = max_of(largest);
  const V inverse(most > least_magnitude ? 127.0F / most : 0.0F);
  const V shift(12582912.0F);  // 1.5 * 2^23: only whole numbers are near it
  RoundedGroup group;
  V sums(0.0F);
#pragma GCC unroll 8
  for (int i = 0; i < group_inputs; i += V::lanes) {
    const V level = fma(V::load(x + i), inverse, shift) - shift;  // the nearest whole number, ties to even
    level.store(group.levels + i);
    sums = sums + level;
  }
  const float total = sum(sums);
  group.scale = most / 127.0F + (total - total);
  group.sum = total == total ? static_cast<std::int32_t>(total) : 0;
  return group;
}

/// 32 activations, `col` apart, or as many as there are and zeros.
template <class V>
RoundedGroup round_activations(const float* x, std::int64_t col, std::int64_t inputs) {
  if (inputs >= group_inputs && col == 1) return round_activations<V>(x);
  alignas(64) float part[group_inputs] = {};
  for (std::int64_t i = 0; i < group_inputs && i < inputs; ++i) part[i] = x[i * col];
  return round_activations<V>(part);
}

/// R rows of the call, the first one at x, one after the other: a row is read as a stream.
template <class V, int R>
void quantise_tile(const LinearCall& call, const float* x, void* to) {
  const std::int32_t bias = call.w.format == MatrixFormat::int8 ? V::dot_bias : Nibbles::offset;
  for (int r = 0; r < R; ++r, x += call.x_row) {
    auto* group = static_cast<QuantisedRows<R>*>(to);
    for (std::int64_t k = 0; k < call.w.k; k += group_inputs, ++group) {
      const RoundedGroup rounded = round_activations<V>(x + k * call.x_col, call.x_col, call.w.k - k);
      for (std::int64_t i = 0; i < group_words; ++i)
        std::memcpy(&group->words[i][r], rounded.levels + 4 * i, sizeof(std::int32_t));
      group->scale[r] = rounded.scale;
      group->start[r] = -bias * rounded.sum;
    }
  }
}

template <class V>
void quantise_rows(const LinearCall& call, std::int64_t first, std::int64_t rows, std::byte* to) {
  for (std::int64_t i = 0; i < rows; i += V::group_rows)
    with_rows<V::group_rows>(rows - i, [&](auto m) {
      quantise_tile<V, m.value>(call, call.x + (first + i) * call.x_row, to + i * quantised_bytes(call.w.k));
    });
}

// -- products -------------------------------------------------------------------------------------

/// sum + the products of w's bytes, or half bytes, with x's.
template <class V, class Kind>
typename V::Integers add_products(typename V::Integers sum, typename V::Integers w, typename V::Integers x) {
  if constexpr (V::sums_nibble_pairs)
    return add_nibble_pairs(sum, w, x);
  else if constexpr (Kind::parts == 1)
    return dot_bytes(sum, w, x);
  else
    return dot_nibbles(sum, w, x);
}

/// Sums kept for an output in a group: two where bytes are multiplied as half bytes, of lower and upper ones.
template <class V, class Kind>
inline constexpr int planes = V::sums_nibble_pairs && Kind::parts == 1 ? 2 : 1;

/// What the sums of a group come to.
template <class V, std::size_t Planes>
typename V::Integers total_of(const typename V::Integers (&sums)[Planes], std::int32_t start) {
  if constexpr (V::sums_nibble_pairs) {
    const auto lower = sum_of_pairs<1>(typename V::Integers(start), sums[0]);
    return Planes == 1 ? lower : sum_of_pairs<16>(lower, sums[Planes - 1]);
  } else {
    return sums[0];
  }
}

/// NV vectors of outputs, the first one at `group`, times R rows of one group, added to sums.
template <class V, int R, int NV, class Kind>
[[gnu::always_inline]] inline void add_group(const QuantisedRows<R>& x, const std::byte* scales,
                                             const std::byte* words, V (*sums)[std::size_t{R}]) {
  using Words = typename V::Integers;
  constexpr int P = planes<V, Kind>, pieces = Kind::parts * P;
  Words totals[std::size_t{NV}][std::size_t{R}][std::size_t{P}];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j)
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) totals[j][r][p] = Words(V::sums_nibble_pairs ? 0 : x.start[r]);
#pragma GCC unroll 8
  for (std::int64_t i = 0; i < Kind::rows; ++i, words += panel_width * 4) {
    Words w[std::size_t{pieces}][std::size_t{NV}];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      w[0][j] = Words::load(words + j * V::lanes * 4);
      if constexpr (pieces == 2) {
        w[1][j] = shift_down<4>(w[0][j]) & Words(0x0f0f0f0f);
        w[0][j] = w[0][j] & Words(0x0f0f0f0f);
      }
    }
#pragma GCC unroll 2
    for (std::int64_t part = 0; part < Kind::parts; ++part)
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Words levels(x.words[i + part * Kind::rows][r]);
#pragma GCC unroll 8
        for (int j = 0; j < NV; ++j)
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p)
            totals[j][r][p] = add_products<V, Kind>(totals[j][r][p], w[part + p][j], levels);
      }
  }
#pragma GCC unroll 8
  for (int j = 0; j < NV; ++j) {
    const V scale = V::load(reinterpret_cast<const std::uint16_t*>(scales) + j * V::lanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      sums[j][r] = fma(to_floats(total_of<V>(totals[j][r], x.start[r])), scale * V(x.scale[r]), sums[j][r]);
  }
}

/// Vectors of outputs that R rows meet at once: as many sums as a whole tile has; a row alone meets all, in
/// the order that memory is read.
template <class V, int R, class Kind>
constexpr int vectors_at_once() {
  constexpr int fitting = V::group_rows * V::group_vectors / (R * planes<V, Kind>);
  return R == 1 || fitting > panel_vectors<V> ? panel_vectors<V> : power_of_two_up_to(fitting);
}

/// The same address, unknown to the compiler: it would keep all words of a group for the vectors that come
/// next, on the stack.
template <class T>
const T* read_anew(const T* from) {
  asm("" : "+r"(from));
  return from;
}

/// c (R, panel_width) = or += x (R, groups) times as many groups of one panel; what `finish` gives a place
/// goes there instead.
template <class V, int R, class Kind>
void multiply_groups(const QuantisedRows<R>* x, std::int64_t groups, const std::byte* panel, float* c,
                     bool add, const Finish& finish = {}, Ahead* ahead = nullptr) {
  constexpr int NV = vectors_at_once<V, R, Kind>();
  constexpr int all = panel_vectors<V>;
  V sums[std::size_t{all}][std::size_t{R}];
#pragma GCC unroll 8
  for (int j = 0; j < all; ++j)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[j][r] = add ? V::load(c + r * panel_width + j * V::lanes) : V(0.0F);
  for (std::int64_t g = 0; g < groups; ++g, panel += group_bytes<Kind>) {
    ahead != nullptr ? ahead->turn() : fetch_stream<V, group_bytes<Kind>>(panel);
#pragma GCC unroll 1
    for (int j = 0; j < all; j += NV)
      add_group<V, R, NV, Kind>(*read_anew(x + g), panel + j * V::lanes * 2,
                                panel + scales_bytes + j * V::lanes * 4, sums + j);
  }
  if (finish.y != nullptr) return finish_tile<V, R, all>([&](int r, int j) { return sums[j][r]; }, finish);
#pragma GCC unroll 8
  for (int j = 0; j < all; ++j)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sums[j][r].store(c + r * panel_width + j * V::lanes);
}

template <class V, class Kind>
void multiply_integers_of(const IntegerPart& part) {
  constexpr std::int64_t R = V::group_rows;
  const std::int64_t groups = groups_of(part.k), tiles = (part.rows + R - 1) / R;
  const auto* panel = static_cast<const std::byte*>(part.b.data);
  Ahead ahead;
  ahead.operand.start(runs_of(part.next, 0, part.k), tiles * groups);
  for (std::int64_t first = 0; first < groups; first += group_block) {
    const std::int64_t count = groups - first < group_block ? groups - first : group_block;
    const bool last = first + count == groups;
    for (std::int64_t i = 0; i < part.rows; i += R)
      with_rows<V::group_rows>(part.rows - i, [&](auto m) {
        const auto* x = reinterpret_cast<const QuantisedRows<m.value>*>(part.a + i * quantised_bytes(part.k));
        const Finish finish = last ? finish_of(part.finish, i) : Finish();
        if (last) fetch_for<V>(part, i, m.value, count, ahead.meeting);
        multiply_groups<V, m.value, Kind>(x + first, count, panel + first * group_bytes<Kind>,
                                          part.c + i * panel_width, first > 0, finish, &ahead);
      });
  }
}

template <class V>
void multiply_integers(const IntegerPart& part) {
  part.b.format == MatrixFormat::int8 ? multiply_integers_of<V, Bytes>(part)
                                      : multiply_integers_of<V, Nibbles>(part);
}

// -- few vectors ----------------------------------------------------------------------------------

template <class V>
void quantise_vectors(const LinearCall& call, void* to) {
  with_rows<few_rows>(call.m, [&](auto m) { quantise_tile<V, m.value>(call, call.x, to); });
}

template <class V, class Kind>
void linear_vectors_quantised(const LinearCall& call, const void* x, std::int64_t begin, std::int64_t end) {
  with_rows<few_rows>(call.m, [&](auto m) {
    linear_panels<V>(call, begin, end, [&](const std::byte* panel, float* c) {
      multiply_groups<V, m.value, Kind>(static_cast<const QuantisedRows<m.value>*>(x), groups_of(call.w.k),
                                        panel, c, false);
    });
  });
}

}  // namespace orion::cpu
