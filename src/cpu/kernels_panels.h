// Conversion between fp32 and fp16, and packing of constant matrices, for a vector type V.
#pragma once

#include "cpu/kernels_elements.h"

namespace orion::cpu {

template <class V>
void widen(const std::uint16_t* from, float* to, std::int64_t count) {
  map<V>(from, to, 0, count, [](V x) { return x; });
}

template <class V>
void narrow(const float* from, std::uint16_t* to, std::int64_t count) {
  map<V>(from, to, 0, count, [](V x) { return x; });
}

/// One row of a panel, from fp32 or halves to fp32 or halves. Halves stay the bits they are.
template <class V>
void convert_row(const float* from, float* to) {
  map<V>(from, to, 0, panel_width, [](V x) { return x; });
}
template <class V>
void convert_row(const float* from, std::uint16_t* to) {
  narrow<V>(from, to, panel_width);
}
template <class V>
void convert_row(const std::uint16_t* from, float* to) {
  widen<V>(from, to, panel_width);
}
template <class V>
void convert_row(const std::uint16_t* from, std::uint16_t* to) {
  for (std::int64_t j = 0; j < panel_width; ++j) to[j] = from[j];
}

template <class V, class From, class To>
void pack_panel(const From* from, const MatrixView& view, std::int64_t width, std::int64_t k, To* to) {
  alignas(64) From row[panel_width] = {};
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < width; ++j) row[j] = from[j * view.row + i * view.col];
    convert_row<V>(row, to + i * panel_width);
  }
}

template <class V, class From, class To>
void pack_panels_as(const MatrixView& view, const Panels& panels, std::int64_t begin, std::int64_t end) {
  To* to = static_cast<To*>(const_cast<void*>(panels.data));
  for (std::int64_t p = begin; p < end; ++p) {
    const std::int64_t n = p * panel_width;
    const std::int64_t width = panels.n - n < panel_width ? panels.n - n : panel_width;
    pack_panel<V>(static_cast<const From*>(view.data) + n * view.row, view, width, panels.k,
                  to + n * panels.k);
  }
}

template <class V>
void pack_panels(const MatrixView& view, const Panels& panels, std::int64_t begin, std::int64_t end) {
  using Half = std::uint16_t;
  const bool from_half = view.dtype == DType::fp16;
  const bool to_half = panels.dtype == DType::fp16;
  if (from_half)
    to_half ? pack_panels_as<V, Half, Half>(view, panels, begin, end)
            : pack_panels_as<V, Half, float>(view, panels, begin, end);
  else
    to_half ? pack_panels_as<V, float, Half>(view, panels, begin, end)
            : pack_panels_as<V, float, float>(view, panels, begin, end);
}

}  // namespace orion::cpu
