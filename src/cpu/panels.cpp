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

// int8 and int4: the level of an input, as it is stored, times its group's scale.
float group_element(const Panels& panels, const std::byte* panel, std::int64_t lane, std::int64_t k) {
  const bool nibbles = panels.format == MatrixFormat::int4;
  const std::byte* group = panel + panels.inputs_bytes(k / group_inputs * group_inputs);
  std::uint16_t scale = 0;
  std::memcpy(&scale, group + lane * 2, sizeof(scale));
  const std::int64_t input = k % group_inputs, half = group_inputs / 2;
  const std::int64_t at = nibbles ? input % half : input;
  const auto byte = std::to_integer<int>(group[panel_width * 2 + (at / 4 * panel_width + lane) * 4 + at % 4]);
  const int level = !nibbles ? byte - 128 : (input < half ? byte & 15 : byte >> 4) - 8;
  return static_cast<float>(level) * half_to_float(scale);
}

float panel_element(const Panels& panels, std::int64_t n, std::int64_t k) {
  const std::byte* panel =
      static_cast<const std::byte*>(panels.data) + n / panel_width * panels.panel_bytes();
  const std::int64_t lane = n % panel_width;
  if (panels.format == MatrixFormat::exact) return read_element(panel, panels.dtype, k * panel_width + lane);
  if (panels.format != MatrixFormat::bf16) return group_element(panels, panel, lane, k);
  std::uint16_t bits = 0;
  std::memcpy(&bits, panel + ((k / 2 * panel_width + lane) * 2 + k % 2) * 2, sizeof(bits));
  return bfloat_to_float(bits);
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
      for (std::int64_t k = 0; k < panels.k; ++k)
        write_element(const_cast<void*>(to.data), to.dtype, n * to.row + k * to.col,
                      panel_element(panels, n, k));
  });
}

void gather_rows(ThreadPool& pool, const Panels& table, std::span<const std::int32_t> ids, float* y) {
  check_ids(ids, table.n);
  pool.split(static_cast<std::int64_t>(ids.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t k = 0; k < table.k; ++k)
        y[i * table.k + k] = panel_element(table, ids[static_cast<std::size_t>(i)], k);
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
