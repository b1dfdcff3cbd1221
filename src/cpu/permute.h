// Axes in another order.
#pragma once

#include "base/threads.h"
#include "orion/tensor.h"

#include <array>
#include <vector>

namespace orion::cpu {

/// A transpose reduced to what moves: axes of size 1 dropped, neighbours that stay together merged.
struct Permutation {
  int rank = 0;                                        // of the reduced result, at least 1
  std::array<std::int64_t, Shape::max_rank> size{};    // of the result
  std::array<std::int64_t, Shape::max_rank> stride{};  // of the source, per axis of the result
};

Permutation make_permutation(const Shape& from, const std::vector<std::int64_t>& perm);

void permute(ThreadPool& pool, const Permutation& permutation, const float* from, float* to);

/// Element offsets of each matrix (last two axes) of an operand broadcast over the leading axes of `result`.
std::vector<std::int64_t> batch_offsets(const Shape& operand, const Shape& result);

}  // namespace orion::cpu
