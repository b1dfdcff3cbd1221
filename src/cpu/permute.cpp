#include "cpu/permute.h"

#include <algorithm>

namespace orion::cpu {
namespace {

constexpr std::int64_t tile = 16;  // a square of floats that fits a cache line each way

struct Axis {
  std::int64_t size;
  std::int64_t stride;
};

// Copies the last two axes of the result, in tiles so that both sides are touched by whole lines.
void copy_plane(const float* from, float* to, Axis rows, Axis cols) {
  if (cols.stride == 1) {
    for (std::int64_t r = 0; r < rows.size; ++r)
      std::copy_n(from + r * rows.stride, cols.size, to + r * cols.size);
    return;
  }
  for (std::int64_t r0 = 0; r0 < rows.size; r0 += tile)
    for (std::int64_t c0 = 0; c0 < cols.size; c0 += tile)
      for (std::int64_t r = r0; r < std::min(r0 + tile, rows.size); ++r)
        for (std::int64_t c = c0; c < std::min(c0 + tile, cols.size); ++c)
          to[r * cols.size + c] = from[r * rows.stride + c * cols.stride];
}

}  // namespace

Permutation make_permutation(const Shape& from, const std::vector<std::int64_t>& perm) {
  Permutation result;
  for (const std::int64_t axis : perm) {
    const std::int64_t size = from[static_cast<int>(axis)];
    const std::int64_t stride = from.stride(static_cast<int>(axis));
    if (size == 1) continue;
    const auto last = static_cast<std::size_t>(result.rank) - 1;
    if (result.rank > 0 && result.stride[last] == stride * size) {
      result.size[last] *= size;
      result.stride[last] = stride;
      continue;
    }
    result.size[last + 1] = size;
    result.stride[last + 1] = stride;
    ++result.rank;
  }
  if (result.rank == 0) {
    result.size[0] = result.stride[0] = 1;
    result.rank = 1;
  }
  return result;
}

void permute(ThreadPool& pool, const Permutation& permutation, const float* from, float* to) {
  const auto rank = static_cast<std::size_t>(permutation.rank);
  const Axis cols{permutation.size[rank - 1], permutation.stride[rank - 1]};
  const Axis rows = rank > 1 ? Axis{permutation.size[rank - 2], permutation.stride[rank - 2]} : Axis{1, 0};
  std::int64_t planes = 1;
  for (std::size_t axis = 0; axis + 2 < rank; ++axis) planes *= permutation.size[axis];
  const auto plane_source = [&](std::int64_t plane) {
    std::int64_t offset = 0;
    for (std::size_t axis = rank > 2 ? rank - 2 : 0; axis-- > 0;) {
      offset += plane % permutation.size[axis] * permutation.stride[axis];
      plane /= permutation.size[axis];
    }
    return offset;
  };
  if (planes == 1) {
    pool.split(rows.size, tile, [&](std::int64_t begin, std::int64_t end) {
      copy_plane(from + begin * rows.stride, to + begin * cols.size, {end - begin, rows.stride}, cols);
    });
    return;
  }
  pool.split(planes, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane)
      copy_plane(from + plane_source(plane), to + plane * rows.size * cols.size, rows, cols);
  });
}

std::vector<std::int64_t> batch_offsets(const Shape& operand, const Shape& result) {
  const int batch_axes = result.rank() - 2;
  const int missing = result.rank() - operand.rank();
  std::vector<std::int64_t> offsets = {0};
  for (int axis = 0; axis < batch_axes; ++axis) {
    const int own = axis - missing;
    const std::int64_t stride = own < 0 || operand[own] == 1 ? 0 : operand.stride(own);
    std::vector<std::int64_t> next;
    for (const std::int64_t offset : offsets)
      for (std::int64_t i = 0; i < result[axis]; ++i) next.push_back(offset + i * stride);
    offsets = std::move(next);
  }
  return offsets;
}

}  // namespace orion::cpu
