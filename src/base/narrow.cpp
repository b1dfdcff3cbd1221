#include "base/narrow.h"

#include "orion/error.h"

#include <algorithm>
#include <cmath>

namespace orion {
namespace {

// What lies halfway between the largest fp16 and the power of two after it rounds to infinity.
bool is_beyond_half(float value) {
  return std::isfinite(value) && std::abs(value) >= 65520.0F;
}

}  // namespace

void check_fits_half(const Tensor& weight, std::string_view name, std::string_view remedy) {
  if (weight.dtype() != DType::fp32) return;
  const auto values = weight.as<float>();
  const auto found = std::ranges::find_if(values, is_beyond_half);
  if (found == values.end()) return;
  fail("weight '", name, "': element ", found - values.begin(), " is ", *found, ", beyond fp16's range; ",
       remedy);
}

Tensor narrowed(const Tensor& weight, DType dtype, std::string_view name, std::string_view remedy) {
  if (weight.dtype() == dtype) return weight;
  if (dtype == DType::fp16) check_fits_half(weight, name, remedy);
  return convert(weight, dtype);
}

}  // namespace orion
