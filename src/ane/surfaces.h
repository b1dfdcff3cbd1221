// Values between the host's dense arrays and the engine's surfaces.
#pragma once

#include "ane/engine.h"
#include "orion/ane.h"
#include "orion/tensor.h"

namespace orion::ane {

/// A value of up to four axes as (N, C, H, W) on a surface. Rows of `width` elements lie `row_stride` bytes
/// apart in planes, planes `plane_stride` in batches, batches `batch_stride`.
struct Placement {
  std::int64_t rows = 1;  // of all planes
  std::int64_t width = 1;
  std::int64_t plane_rows = 1;
  std::int64_t batch_planes = 1;
  std::size_t row_stride = 0;
  std::size_t plane_stride = 0;
  std::size_t batch_stride = 0;
  std::size_t bytes = 0;  // of the surface

  /// Byte at which a row begins.
  std::size_t row_at(std::int64_t row) const;
  /// Whether the value's elements lie as in a dense tensor.
  bool dense(std::size_t element) const;
};

/// Where a value goes: as the loaded model says, or by the profile's rules where it says nothing (`symbol`
/// null). Error if the model's symbol has other sizes than the value, or is interleaved.
Placement place(const TensorType& type, const Symbol* symbol, const Profile& profile);

/// Copies a dense fp16 or fp32 value to or from a locked surface.
void write_rows(const Tensor& value, const Placement& placement, void* surface);
void read_rows(const Tensor& value, const Placement& placement, const void* surface);

}  // namespace orion::ane
