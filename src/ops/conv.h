#pragma once

#include "orion/op.h"

namespace orion {

/// The conv row of the op table.
OpDef conv_op();

}  // namespace orion
