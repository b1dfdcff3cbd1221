// Inputs of int8. Half precision holds every int8, so a program with such inputs computes as one whose inputs
// are fp16 and whose surfaces hold bytes.
#pragma once

#include <set>
#include <string>
#include <string_view>

namespace orion::sim {

struct HalfForm {
  std::string text;
  std::set<std::string, std::less<>> int8_inputs;
};

/// before   func main<ios18>(tensor<int8, [1, 64, 1, 64]> w) { ... dequantize(input = w, scale = s) ... }
/// after    func main<ios18>(tensor<fp16, [1, 64, 1, 64]> w) { ... mul(x = w, y = s) ... }
/// Error if an int8 input is used by anything else.
HalfForm int8_as_half(std::string_view text);

}  // namespace orion::sim
