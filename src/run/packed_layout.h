// What stands at the beginning of a file of packed weights, and is not believed before it is checked.
#pragma once

#include "orion/matrix_format.h"
#include "orion/tensor.h"

#include <optional>
#include <vector>

namespace orion {

struct PackedMatrixForm {
  MatrixFormat format = MatrixFormat::exact;
  bool transposed = false;  // as in PackedMatrix
};

struct PackedEntry {
  std::string name;
  TensorType type;                            // of the weight
  std::optional<PackedMatrixForm> form = {};  // of a matrix in panels
  std::uint64_t begin = 0;                    // in the data
  std::uint64_t bytes = 0;
  std::string sha256 = {};  // of `described` and the content
};

struct PackedLayout {
  std::string dtype;       // of the model: a name that precision_from_name knows
  std::string source;      // what the weights were made from
  std::uint64_t data = 0;  // where it begins in the file
  std::vector<PackedEntry> entries = {};
};

/// The layout of a file; Error unless its tensors fill the data, one after the other, plain ones being as
/// large as their types. How large a matrix must be is the device's to say.
PackedLayout read_packed_layout(std::span<const std::byte> file, std::string_view what);

/// The first bytes of a file, up to the data, at a multiple of 64. Entries lie as they are listed.
std::string packed_layout_text(const PackedLayout& layout);

/// An entry without place and content, for its hash.
std::string described(const PackedEntry& entry);

}  // namespace orion
