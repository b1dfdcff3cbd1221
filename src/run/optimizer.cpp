#include "run/optimizer.h"

#include "base/threads.h"
#include "cpu/kernels.h"

#include <cmath>
#include <cstring>

namespace orion {

double gradient_norm(std::span<const Parameter> parameters) {
  double total = 0.0;
  for (const Parameter& parameter : parameters)
    total += cpu::square_sum(shared_pool(), parameter.gradient.as<float>().data(),
                             parameter.gradient.shape().size());
  return std::sqrt(total);
}

void adamw_step(std::span<const Parameter> parameters, const AdamW& options, double learning_rate,
                double factor, std::int64_t step) {
  const double correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(step));
  cpu::AdamwCall call{.scale = static_cast<float>(factor),
                      .beta1 = static_cast<float>(options.beta1),
                      .beta2 = static_cast<float>(options.beta2),
                      .size = static_cast<float>(learning_rate / correction1),
                      .root = static_cast<float>(1.0 / std::sqrt(correction2)),
                      .epsilon = static_cast<float>(options.epsilon)};
  for (const Parameter& parameter : parameters) {
    call.keep = static_cast<float>(parameter.decays ? 1.0 - learning_rate * options.weight_decay : 1.0);
    call.w = parameter.value.as<float>().data();
    call.g = parameter.gradient.as<float>().data();
    call.m = parameter.first_moment.as<float>().data();
    call.v = parameter.second_moment.as<float>().data();
    call.count = parameter.value.shape().size();
    cpu::adamw(shared_pool(), call);
  }
}

void clear_gradient(const Parameter& parameter) {
  std::memset(parameter.gradient.data(), 0, parameter.gradient.bytes());
}

}  // namespace orion
