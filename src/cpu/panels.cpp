// Matrices that do not change, packed for products: filled, read back, and read by rows.
#include "base/f16.h"
#include "cpu/kernel_table.h"
#include "orion/error.h"

#include <cstring>

namespace orion::cpu {
namespace {

float read_element(const void* data, DType dtype, std::int64_t at) {
  return dtype == DType::fp16 ? half_to_float(static_cast<const std::uint16_t*>(data)[at])
                              : static_cast<const float*>(data)[at];
}

void write_element(void* data, DType dtype, std::int64_t at, float value) {
  if (dtype == DType::fp16)
    static_cast<std::uint16_t*>(data)[at] = float_to_half(value);
  else
    static_cast<float*>(data)[at] = value;
}

// Every input of output n, by `put(k, value)`, whatever the format: in all of them a lane of a panel.

template <class Put>
void read_exact(const Panels& panels, const std::byte* panel, std::int64_t lane, const Put& put) {
  for (std::int64_t k = 0; k < panels.k; ++k)
    put(k, read_element(panel, panels.dtype, k * panel_width + lane));
}

template <class Put>
void read_pairs(const Panels& panels, const std::byte* panel, std::int64_t lane, const Put& put) {
  for (std::int64_t k = 0; k < panels.k; k += 2) {
    std::uint16_t pair[2];
    std::memcpy(pair, panel + (k / 2 * panel_width + lane) * 4, sizeof(pair));
    put(k, bfloat_to_float(pair[0]));
    if (k + 1 < panels.k) put(k + 1, bfloat_to_float(pair[1]));
  }
}

// The levels of inputs, as they are stored, times the scale of their group.
template <class Put>
void read_groups(const Panels& panels, const std::byte* group, std::int64_t lane, const Put& put) {
  const bool nibbles = panels.format == MatrixFormat::int4;
  constexpr std::int64_t half = group_inputs / 2;
  for (std::int64_t first = 0; first < panels.k; first += group_inputs, group += panels.inputs_bytes(1)) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, group + lane * 2, sizeof(bits));
    const float scale = half_to_float(bits);
    const std::byte* levels = group + panel_width * 2 + lane * 4;
    for (std::int64_t input = 0; input < group_inputs && first + input < panels.k; ++input) {
      const std::int64_t at = nibbles ? input % half : input;
      const auto byte = std::to_integer<int>(levels[at / 4 * panel_width * 4 + at % 4]);
      const int level = !nibbles ? byte - 128 : (input < half ? byte & 15 : byte >> 4) - 8;
      put(first + input, static_cast<float>(level) * scale);
    }
  }
}

template <class Put>
void read_output(const Panels& panels, std::int64_t n, const Put& put) {
  const std::byte* panel =
      static_cast<const std::byte*>(panels.data) + n / panel_width * panels.panel_bytes();
  const std::int64_t lane = n % panel_width;
  if (panels.format == MatrixFormat::exact) return read_exact(panels, panel, lane, put);
  if (panels.format == MatrixFormat::bf16) return read_pairs(panels, panel, lane, put);
  read_groups(panels, panel, lane, put);
}

void check_ids(std::span<const std::int32_t> ids, std::int64_t n) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= n)
      fail("gather: index ", ids[i], " at position ", i, " is outside the table of ", n, " rows");
}

// Pairs of inputs; an odd last one meets 0.
void pack_pairs(const MatrixView& from, const Panels& panels, std::int64_t begin, std::int64_t end) {
  auto* to = static_cast<std::uint16_t*>(const_cast<void*>(panels.data)) + begin * panels.panel_bytes() / 2;
  const std::int64_t pairs = (panels.k + 1) / 2;
  for (std::int64_t p = begin; p < end; ++p)
    for (std::int64_t i = 0; i < pairs; ++i)
      for (std::int64_t j = 0; j < panel_width; ++j)
        for (std::int64_t k = 2 * i; k < 2 * i + 2; ++k) {
          const std::int64_t n = p * panel_width + j;
          const bool inside = n < panels.n && k < panels.k;
          *to++ = inside ? float_to_bfloat(read_element(from.data, from.dtype, n * from.row + k * from.col))
                         : std::uint16_t{0};
        }
}

}  // namespace

void pack_panels(ThreadPool& pool, const MatrixView& from, const Panels& panels) {
  const bool quantised = panels.format == MatrixFormat::int8 || panels.format == MatrixFormat::int4;
  pool.split(panels.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    if (panels.format == MatrixFormat::bf16) return pack_pairs(from, panels, begin, end);
    (quantised ? kernels().pack_panels_quantised : kernels().pack_panels)(from, panels, begin, end);
  });
}

void unpack_panels(ThreadPool& pool, const Panels& panels, const MatrixView& to) {
  pool.split(panels.n, panel_width, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n)
      read_output(panels, n, [&](std::int64_t k, float value) {
        write_element(const_cast<void*>(to.data), to.dtype, n * to.row + k * to.col, value);
      });
  });
}

void gather_rows(ThreadPool& pool, const Panels& table, std::span<const std::int32_t> ids, float* y) {
  check_ids(ids, table.n);
  pool.split(static_cast<std::int64_t>(ids.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      read_output(table, ids[static_cast<std::size_t>(i)],
                  [&](std::int64_t k, float value) { y[i * table.k + k] = value; });
  });
}

void gather_rows(ThreadPool& pool, const MatrixView& table, std::int64_t n, std::int64_t k,
                 std::span<const std::int32_t> ids, float* y) {
  check_ids(ids, n);
  pool.split(static_cast<std::int64_t>(ids.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < k; ++j)
        y[i * k + j] = read_element(table.data, table.dtype,
                                    ids[static_cast<std::size_t>(i)] * table.row + j * table.col);
  });
}

}  // namespace orion::cpu
