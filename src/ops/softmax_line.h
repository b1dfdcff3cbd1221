// Softmax of one line of numbers, as every reference kernel computes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace orion {

/// y = softmax(x) over `count` elements, `stride` apart; the sum is taken in fp64.
inline void softmax_line(const float* x, float* y, std::int64_t count, std::int64_t stride) {
  float largest = x[0];
  for (std::int64_t i = 1; i < count; ++i) largest = std::max(largest, x[i * stride]);
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    y[i * stride] = std::exp(x[i * stride] - largest);
    sum += static_cast<double>(y[i * stride]);
  }
  for (std::int64_t i = 0; i < count; ++i)
    y[i * stride] = static_cast<float>(static_cast<double>(y[i * stride]) / sum);
}

}  // namespace orion
