#include "run/optimizer.h"

#include "base/threads.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace orion {
namespace {

// Elements that one thread takes at once: a few pages of each of four arrays.
constexpr std::int64_t block = 16384;

double square_sum(const float* x, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

std::int64_t size_of(const Parameter& parameter) {
  return parameter.value.shape().size();
}

}  // namespace

double gradient_norm(std::span<const Parameter> parameters) {
  double total = 0.0;
  std::vector<double> sums;
  for (const Parameter& parameter : parameters) {
    const std::int64_t size = size_of(parameter);
    const float* g = parameter.gradient.as<float>().data();
    sums.assign(static_cast<std::size_t>((size + block - 1) / block), 0.0);
    shared_pool().split(size, block, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end; at += block)
        sums[static_cast<std::size_t>(at / block)] = square_sum(g + at, std::min(block, end - at));
    });
    for (const double sum : sums) total += sum;
  }
  return std::sqrt(total);
}

void adamw_step(std::span<const Parameter> parameters, const AdamW& options, double learning_rate,
                double factor, std::int64_t step) {
  const double correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  const auto size = static_cast<float>(learning_rate / correction1);
  const auto root = static_cast<float>(1.0 / std::sqrt(correction2));
  const auto b1 = static_cast<float>(options.beta1), b2 = static_cast<float>(options.beta2);
  const auto epsilon = static_cast<float>(options.epsilon);
  const auto scale = static_cast<float>(factor);
  for (const Parameter& parameter : parameters) {
    const auto keep = static_cast<float>(parameter.decays ? 1.0 - learning_rate * options.weight_decay : 1.0);
    float* w = parameter.value.as<float>().data();
    float* g = parameter.gradient.as<float>().data();
    float* m = parameter.first_moment.as<float>().data();
    float* v = parameter.second_moment.as<float>().data();
    shared_pool().split(size_of(parameter), block, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const float dw = g[i] * scale;
        m[i] = b1 * m[i] + (1.0F - b1) * dw;
        v[i] = b2 * v[i] + (1.0F - b2) * dw * dw;
        w[i] = w[i] * keep - size * m[i] / (std::sqrt(v[i]) * root + epsilon);
        g[i] = 0.0F;
      }
    });
  }
}

void clear_gradients(std::span<const Parameter> parameters) {
  for (const Parameter& parameter : parameters)
    std::memset(parameter.gradient.data(), 0, parameter.gradient.bytes());
}

}  // namespace orion
