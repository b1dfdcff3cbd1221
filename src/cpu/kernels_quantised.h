// Matrices in groups of 8 or 4 bits for a vector type V: packing, and expanding for products that are not of
// integers (kernels_integers.h has those).
#pragma once

#include "cpu/kernels_panels.h"
#include "cpu/kernels_vectors.h"

#include <cstring>

namespace orion::cpu {

inline constexpr std::int64_t group_words = group_inputs / 4;  // of four bytes, for one output
inline constexpr std::int64_t scales_bytes = panel_width * 2;

/// A group of a panel as its products read it: `rows` rows of words, the inputs of each being `parts` runs of
/// four that lie `group_inputs / parts` apart.
struct Bytes {
  static constexpr std::int64_t rows = group_words;
  static constexpr std::int64_t parts = 1;
  static constexpr int offset = 128;
};
struct Nibbles {
  static constexpr std::int64_t rows = group_words / 2;
  static constexpr std::int64_t parts = 2;
  static constexpr int offset = 8;
};

template <class Kind>
inline constexpr std::int64_t group_bytes = scales_bytes + Kind::rows * panel_width * 4;

// -- packing --------------------------------------------------------------------------------------

/// The inputs [first, first + 32) of a panel's outputs as floats (32, panel_width), what is missing 0.
template <class V, class From>
void load_group(const MatrixView& view, const From* from, std::int64_t width, std::int64_t inputs,
                float* to) {
  alignas(64) From row[panel_width] = {};
  for (std::int64_t i = 0; i < group_inputs; ++i) {
    for (std::int64_t j = 0; j < width; ++j) row[j] = i < inputs ? from[j * view.row + i * view.col] : From{};
    convert_row<V>(row, to + i * panel_width);
  }
}

/// The value of largest magnitude of each output.
inline void largest_of(const float* group, float* largest) {
  for (std::int64_t j = 0; j < panel_width; ++j) largest[j] = 0.0F;
  for (std::int64_t i = 0; i < group_inputs; ++i)
    for (std::int64_t j = 0; j < panel_width; ++j) {
      const float value = group[i * panel_width + j];
      largest[j] = __builtin_fabsf(value) > __builtin_fabsf(largest[j]) ? value : largest[j];
    }
}

/// The nearest whole number, ties to even, for magnitudes below 2^22.
inline float nearest(float value) {
  constexpr float shift = 12582912.0F;  // 1.5 * 2^23
  return (value + shift) - shift;
}

/// The level of value / scale, plus the offset.
template <class Kind>
float level_of(float value, float inverse) {
  constexpr float least = Kind::parts == 1 ? 1.0F : 0.0F;
  constexpr float most = Kind::parts == 1 ? 255.0F : 15.0F;
  const float level = nearest(value * inverse) + static_cast<float>(Kind::offset);
  return level < least ? least : level > most ? most : level;
}

/// 1 / scale of each output, 0 for a scale of 0.
inline void invert(const float* scales, float* inverse) {
  for (std::int64_t j = 0; j < panel_width; ++j) inverse[j] = scales[j] == 0.0F ? 0.0F : 1.0F / scales[j];
}

/// The squares of what rounding with these scales loses, summed for each output.
template <class Kind>
void losses_of(const float* group, const float* scales, float* losses) {
  alignas(64) float inverse[panel_width];
  invert(scales, inverse);
  for (std::int64_t j = 0; j < panel_width; ++j) losses[j] = 0.0F;
  for (std::int64_t i = 0; i < group_inputs; ++i)
    for (std::int64_t j = 0; j < panel_width; ++j) {
      const float value = group[i * panel_width + j];
      const float level = level_of<Kind>(value, inverse[j]) - static_cast<float>(Kind::offset);
      const float lost = value - level * scales[j];
      losses[j] += lost * lost;
    }
}

/// 8 bits: the largest magnitude is level 127. 4 bits have a level more on the negative side, and few enough
/// in all that giving up a little of the largest value may keep more of the others: the best of some scales.
template <class Kind>
void choose_scales(const float* group, float* scales) {
  alignas(64) float largest[panel_width], tried[panel_width], loss[panel_width], least[panel_width];
  largest_of(group, largest);
  if constexpr (Kind::parts == 1) {
    for (std::int64_t j = 0; j < panel_width; ++j) scales[j] = __builtin_fabsf(largest[j]) / 127.0F;
    return;
  }
  constexpr float levels[] = {-8.0F, -8.5F, -9.0F, -9.5F, -7.5F, -7.0F, 7.0F, 7.5F, 8.0F, 8.5F};
  for (std::int64_t j = 0; j < panel_width; ++j) least[j] = __builtin_inff();
  for (const float level : levels) {
    for (std::int64_t j = 0; j < panel_width; ++j) tried[j] = largest[j] / level;
    losses_of<Kind>(group, tried, loss);
    for (std::int64_t j = 0; j < panel_width; ++j) {
      const bool better = loss[j] < least[j];
      scales[j] = better ? tried[j] : scales[j];
      least[j] = better ? loss[j] : least[j];
    }
  }
}

/// Rounds a group: its scales and its words.
template <class V, class Kind>
void round_group(const float* group, std::byte* to) {
  alignas(64) float scales[panel_width] = {}, inverse[panel_width];
  choose_scales<Kind>(group, scales);
  alignas(64) std::uint16_t halves[panel_width];
  narrow<V>(scales, halves, panel_width);
  widen<V>(halves, scales, panel_width);
  std::memcpy(to, halves, sizeof(halves));
  invert(scales, inverse);
  auto* bytes = reinterpret_cast<std::uint8_t*>(to + scales_bytes);
  constexpr std::int64_t apart = group_inputs / Kind::parts;
  for (std::int64_t i = 0; i < apart; ++i)
    for (std::int64_t j = 0; j < panel_width; ++j) {
      auto byte = static_cast<unsigned>(level_of<Kind>(group[i * panel_width + j], inverse[j]));
      if constexpr (Kind::parts == 2)
        byte |= static_cast<unsigned>(level_of<Kind>(group[(i + apart) * panel_width + j], inverse[j])) << 4U;
      bytes[(i / 4 * panel_width + j) * 4 + i % 4] = static_cast<std::uint8_t>(byte);
    }
}

template <class V, class Kind, class From>
void pack_groups(const MatrixView& view, const Panels& panels, std::int64_t begin, std::int64_t end) {
  alignas(64) float group[group_inputs * panel_width];
  auto* to = static_cast<std::byte*>(const_cast<void*>(panels.data)) + begin * panels.panel_bytes();
  for (std::int64_t p = begin; p < end; ++p) {
    const std::int64_t n = p * panel_width;
    const std::int64_t width = panels.n - n < panel_width ? panels.n - n : panel_width;
    for (std::int64_t k = 0; k < panels.k; k += group_inputs, to += group_bytes<Kind>) {
      load_group<V>(view, static_cast<const From*>(view.data) + n * view.row + k * view.col, width,
                    panels.k - k, group);
      round_group<V, Kind>(group, to);
    }
  }
}

template <class V, class From>
void pack_panels_quantised_from(const MatrixView& view, const Panels& panels, std::int64_t begin,
                                std::int64_t end) {
  panels.format == MatrixFormat::int8 ? pack_groups<V, Bytes, From>(view, panels, begin, end)
                                      : pack_groups<V, Nibbles, From>(view, panels, begin, end);
}

template <class V>
void pack_panels_quantised(const MatrixView& view, const Panels& panels, std::int64_t begin,
                           std::int64_t end) {
  view.dtype == DType::fp16 ? pack_panels_quantised_from<V, std::uint16_t>(view, panels, begin, end)
                            : pack_panels_quantised_from<V, float>(view, panels, begin, end);
}

// -- expanding ------------------------------------------------------------------------------------

/// Byte (or half byte) i of every word, times the scales.
template <class V, class Kind, int Shift, class Words>
V level_values(const Words& w, V scale) {
  const V level = to_floats(shift_down<Shift>(w) & Words(Kind::parts == 1 ? 0xff : 0x0f));
  return fma(level, scale, scale * V(static_cast<float>(-Kind::offset)));
}

/// Four inputs of a vector of outputs, the first one at `to`, as floats or as pairs.
template <class V, bool Pairs>
void put_inputs(V a, V b, V c, V d, float* to) {
  if constexpr (Pairs) {
    pairs_of(a, b).store(to);
    pairs_of(c, d).store(to + panel_width);
  } else {
    a.store(to);
    b.store(to + panel_width);
    c.store(to + 2 * panel_width);
    d.store(to + 3 * panel_width);
  }
}

template <class V, class Kind, bool Pairs>
void expand_group(const std::byte* group, float* to) {
  using Words = typename V::Integers;
  constexpr std::int64_t input = Pairs ? panel_width / 2 : panel_width;  // floats
  constexpr std::int64_t apart = group_inputs / 2 * input;
  for (int j = 0; j < panel_vectors<V>; ++j) {
    const V scale = V::load(reinterpret_cast<const std::uint16_t*>(group) + j * V::lanes);
    for (std::int64_t i = 0; i < Kind::rows; ++i) {
      const Words w = Words::load(group + scales_bytes + (i * panel_width + j * V::lanes) * 4);
      float* row = to + 4 * i * input + j * V::lanes;
      put_inputs<V, Pairs>(level_values<V, Kind, 0>(w, scale), level_values<V, Kind, 8>(w, scale),
                           level_values<V, Kind, 16>(w, scale), level_values<V, Kind, 24>(w, scale), row);
      if constexpr (Kind::parts == 2)
        put_inputs<V, Pairs>(level_values<V, Kind, 4>(w, scale), level_values<V, Kind, 12>(w, scale),
                             level_values<V, Kind, 20>(w, scale), level_values<V, Kind, 28>(w, scale),
                             row + apart);
    }
  }
}

/// Rows [first, first + rows) of a panel as floats or pairs, `first` a whole number of groups.
template <class V, bool Pairs>
const float* expand_groups(const Columns& b, std::int64_t first, std::int64_t rows, float* wide) {
  const bool bytes = b.format == MatrixFormat::int8;
  const std::int64_t size = bytes ? group_bytes<Bytes> : group_bytes<Nibbles>;
  const std::byte* group = static_cast<const std::byte*>(b.data) + first / group_inputs * size;
  constexpr std::int64_t floats = group_inputs * panel_width / (Pairs ? 2 : 1);
  float* to = wide;
  for (std::int64_t i = 0; i < rows; i += group_inputs, group += size, to += floats)
    bytes ? expand_group<V, Bytes, Pairs>(group, to) : expand_group<V, Nibbles, Pairs>(group, to);
  return wide;
}

}  // namespace orion::cpu
