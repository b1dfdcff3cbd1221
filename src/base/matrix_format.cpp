#include "orion/matrix_format.h"

#include <array>

namespace orion {

std::string_view matrix_format_name(MatrixFormat format) {
  constexpr std::array<std::string_view, 4> names = {"exact", "bf16", "int8", "int4"};
  return names[static_cast<std::size_t>(format)];
}

std::ostream& operator<<(std::ostream& out, MatrixFormat format) {
  return out << matrix_format_name(format);
}

}  // namespace orion
