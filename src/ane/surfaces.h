// Values between the host's dense arrays and the engine's surfaces.
#pragma once

#include "ane/engine.h"
#include "orion/ane.h"
#include "orion/tensor.h"

namespace orion::ane {

/// A value of up to four axes as (N, C, H, W) on a surface: rows of `width` elements, each row a multiple of
/// `row_stride` bytes from the one before.
struct Placement {
  std::int64_t rows = 1;
  std::int64_t width = 1;
  std::size_t row_stride = 0;  // bytes
  std::size_t bytes = 0;       // of the surface

  bool dense(std::size_t element) const { return row_stride == static_cast<std::size_t>(width) * element; }
};

/// Where a value goes: as the loaded model says, or by the profile's rules where it says nothing (`symbol`
/// null). Error if the model's symbol has other sizes than the value.
Placement place(const TensorType& type, const Symbol* symbol, const Profile& profile);

/// Copies a dense fp16 or fp32 value to or from a locked surface.
void write_rows(const Tensor& value, const Placement& placement, void* surface);
void read_rows(const Tensor& value, const Placement& placement, const void* surface);

}  // namespace orion::ane
