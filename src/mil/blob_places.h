// Which weights a text reads, and where it looks for them.
#pragma once

#include "mil/syntax.h"

namespace orion::mil {

struct BlobPlace {
  std::string name;  // the label, which `parse` gives the weight
  TensorType type;
  std::string path;  // "@model_path/weights/weight.bin"
  std::uint64_t offset = 0;
};

/// In the order of the text.
std::vector<BlobPlace> blob_places(const Function& function);

}  // namespace orion::mil
