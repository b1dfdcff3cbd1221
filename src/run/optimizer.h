// The optimizer's arithmetic on the host, in fp32, on all threads.
#pragma once

#include "orion/train.h"

namespace orion {

/// The square root of the sum of all gradients' squares, in double. Does not depend on the number of threads.
double gradient_norm(std::span<const Parameter> parameters);

/// One step with gradient `factor` g; step counts from 1.
void adamw_step(std::span<const Parameter> parameters, const AdamW& options, double learning_rate,
                double factor, std::int64_t step);

void clear_gradient(const Parameter& parameter);

}  // namespace orion
