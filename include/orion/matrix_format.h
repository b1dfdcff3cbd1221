// How a device keeps matrices that products read.
#pragma once

#include <cstdint>
#include <ostream>
#include <string_view>

namespace orion {

enum class MatrixFormat : std::uint8_t {
  /// In the graph's own types: nothing is lost.
  exact,
  /// Both factors of a product are rounded to bfloat16 (8 bits of significand), sums are fp32. Holds for
  /// matrices that are inputs of a program, too.
  bf16,
  /// Groups of 32 inputs of an output share a scale, the weights are 8 bits each (8.5 in all); activations
  /// are rounded likewise, or to bfloat16.
  int8,
  /// The same with 4 bits (4.5 in all). Tables of rows that are also a product's matrix (tied embeddings)
  /// stay int8.
  int4,
};

/// "exact", "bf16", "int8" or "int4".
std::string_view matrix_format_name(MatrixFormat format);
std::ostream& operator<<(std::ostream& out, MatrixFormat format);

}  // namespace orion
