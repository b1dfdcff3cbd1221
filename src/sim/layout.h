// How the compiler lays out inputs and outputs on surfaces.
#pragma once

#include "ane/engine.h"
#include "orion/ane.h"
#include "orion/tensor.h"
#include "sim/arithmetic.h"

namespace orion::sim {

/// Axes from the last on are width, height, channels and batch; depth is the third of five.
ane::Symbol symbol_of(std::string_view name, const TensorType& type, const ane::Profile& profile);

/// Of an input whose surface holds int8 and which `type`, of fp16, has in the graph.
ane::Symbol int8_symbol_of(std::string_view name, const TensorType& type, const ane::Profile& profile);

/// Bytes that the symbol's surface needs.
std::size_t bytes_needed(const ane::Symbol& symbol);

/// The values on a surface as the engine sees them: floats as fp16, in fp32 memory.
Tensor read_surface(const ane::Symbol& symbol, const TensorType& type, const std::byte* surface,
                    const Arithmetic& arithmetic);
/// Inverse. Bytes between rows stay as they are.
void write_surface(const ane::Symbol& symbol, const TensorType& type, const Tensor& value,
                   std::byte* surface);

}  // namespace orion::sim
