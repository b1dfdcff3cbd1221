#include "sim/matrix.h"

#include "base/threads.h"
#include "sim/sums.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace orion::sim {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float largest_half = 65504.0F;
constexpr float infinite_from = 32752.0F;  // field survey N2: M2 Pro, M5

// `count` elements `stride` apart, from element `offset` of a tensor.
void read_elements(const Tensor& tensor, std::int64_t offset, std::int64_t stride, std::int64_t count,
                   float* to) {
  if (tensor.dtype() == DType::fp32) {
    const float* from = tensor.as<float>().data() + offset;
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
    return;
  }
  const std::uint16_t* from = tensor.as<std::uint16_t>().data() + offset;
  if (stride == 1) return widen(from, to, static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) widen(from + i * stride, to + i, 1);
}

// y in panels of `lanes` columns, each (K, lanes); columns beyond the last are zero.
struct Panels {
  std::vector<float> values;
  std::int64_t depth = 0;
  std::int64_t count = 0;
  std::vector<float> largest;  // magnitude in each panel

  const float* panel(std::int64_t p) const { return values.data() + p * depth * lanes; }
};

float largest_magnitude(std::span<const float> values) {
  float largest = 0.0F;
  for (const float value : values)
    largest = std::max(largest, std::isnan(value) ? infinity : std::fabs(value));
  return largest;
}

void pack_panel(const Matrix& y, std::int64_t p, Panels& panels) {
  const std::int64_t first = p * lanes;
  const std::int64_t cols = std::min(lanes, y.cols - first);
  float* to = panels.values.data() + p * panels.depth * lanes;
  for (std::int64_t k = 0; k < panels.depth; ++k)
    read_elements(y.tensor, y.offset + k * y.row_stride + first * y.col_stride, y.col_stride, cols,
                  to + k * lanes);
  panels.largest[static_cast<std::size_t>(p)] =
      largest_magnitude({to, static_cast<std::size_t>(panels.depth * lanes)});
}

Panels pack(const Matrix& y) {
  Panels panels{.values = {}, .depth = y.rows, .count = (y.cols + lanes - 1) / lanes, .largest = {}};
  panels.values.resize(static_cast<std::size_t>(panels.count * panels.depth * lanes));
  panels.largest.resize(static_cast<std::size_t>(panels.count));
  shared_pool().split(panels.count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) pack_panel(y, p, panels);
  });
  return panels;
}

struct Row {
  std::vector<float> values;
  float largest = 0.0F;  // magnitude
};

void load_row(const Matrix& x, std::int64_t m, Row& row) {
  row.values.resize(static_cast<std::size_t>(x.cols));
  read_elements(x.tensor, x.offset + m * x.row_stride, x.col_stride, x.cols, row.values.data());
  row.largest = largest_magnitude(row.values);
}

float settled(float sum, bool overflow_early) {
  return overflow_early && std::fabs(sum) >= infinite_from ? std::copysign(infinity, sum) : sum;
}

void multiply_row(const Row& row, const Panels& panels, float bias, std::span<float> z,
                  const Arithmetic& arithmetic) {
  Lanes sums;
  for (std::int64_t p = 0; p < panels.count; ++p) {
    const float bound = row.largest * panels.largest[static_cast<std::size_t>(p)];  // of every product
    const bool may_overflow = !(bound < largest_half);
    sum_of_products(arithmetic, may_overflow)(row.values.data(), panels.panel(p), panels.depth, sums);
    const std::span<float> out = z.subspan(static_cast<std::size_t>(p * lanes));
    for (std::size_t j = 0; j < std::min<std::size_t>(lanes, out.size()); ++j)
      out[j] = settled(sums[j] + bias, arithmetic.overflow_early);
  }
  round_all(z, arithmetic);
}

}  // namespace

void multiply_matrices(const Matrix& x, const Matrix& y, const float* bias, float* z,
                       const Arithmetic& arithmetic) {
  const Panels panels = pack(y);
  constexpr std::int64_t work_per_part = 1 << 16;
  const std::int64_t grain = std::max<std::int64_t>(1, work_per_part / (x.cols * panels.count * lanes));
  shared_pool().split(x.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    Row row;
    for (std::int64_t m = begin; m < end; ++m) {
      load_row(x, m, row);
      multiply_row(row, panels, bias == nullptr ? 0.0F : bias[m],
                   {z + m * y.cols, static_cast<std::size_t>(y.cols)}, arithmetic);
    }
  });
}

}  // namespace orion::sim
