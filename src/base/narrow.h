// Weights in another float width, where a number that does not fit is a mistake and not an infinity.
#pragma once

#include "orion/tensor.h"

namespace orion {

/// Error naming the first element of a weight that is finite and would be infinite in fp16: "weight 'w':
/// element 3 is 70000, beyond fp16's range; <remedy>".
void check_fits_half(const Tensor& weight, std::string_view name, std::string_view remedy);

/// A float weight as `dtype`: itself if that is what it is, else converted, with the check above.
Tensor narrowed(const Tensor& weight, DType dtype, std::string_view name, std::string_view remedy);

}  // namespace orion
