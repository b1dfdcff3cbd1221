// A legal program as a package keeps it: its text, and what the host must know to run it.
#pragma once

#include "ane/image.h"
#include "ane/legal_program.h"

namespace orion {

struct PackedProgram {
  std::string text;
  /// What the text reads from its weight file, in its order, by the names in DeviceWeights.
  std::vector<std::string> weights;
  /// `type` and `shape` follow from the text and need not be given.
  std::vector<ane::PortUse> inputs;
  std::vector<ane::PortUse> outputs;
};

namespace ane {

struct Unpacked {
  LegalProgram program;
  Blueprint blueprint;
};

/// The program and its text, nothing rewritten. Error unless the text is MIL whose constants are packed one
/// after the other in one weight file, and the ports are those of the text: each once, of a size that fits
/// its source, the shares of a split output covering it.
Unpacked unpack(const PackedProgram& packed);

}  // namespace ane
}  // namespace orion
