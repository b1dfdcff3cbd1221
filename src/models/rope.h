// Rotary position embedding: where its angles come from in a configuration, and their tables.
#pragma once

#include "models/config.h"

namespace orion {

/// Reads `rope_parameters` (transformers 5) or `rope_scaling` with `rope_theta` (before it).
Rope configure_rope(const ConfigReader& config, std::int64_t context);

struct RopeTables {
  Tensor cos;  // (positions, D/2)
  Tensor sin;
};

/// Angles are computed in double and rounded once.
RopeTables rope_tables(const Rope& rope, std::int64_t positions, std::int64_t head_dim, DType dtype);

}  // namespace orion
