#include "ane/surfaces.h"

#include "orion/error.h"

#include <algorithm>
#include <cstring>

namespace orion::ane {
namespace {

std::size_t round_up(std::size_t bytes, std::int64_t multiple) {
  const auto m = static_cast<std::size_t>(multiple);
  return (bytes + m - 1) / m * m;
}

Placement by_rules(const TensorType& type, const Profile& profile) {
  Placement placement;
  placement.width = type.shape.rank() == 0 ? 1 : type.shape.back();
  placement.rows = placement.plane_rows = type.shape.size() / placement.width;
  const std::size_t row = static_cast<std::size_t>(placement.width) * dtype_size(type.dtype);
  placement.row_stride = round_up(row, profile.row_alignment);
  placement.plane_stride = placement.batch_stride =
      static_cast<std::size_t>(placement.rows) * placement.row_stride;
  placement.bytes = std::max(placement.plane_stride, static_cast<std::size_t>(profile.minimum_surface));
  return placement;
}

Placement as_reported(const TensorType& type, const Symbol& symbol) {
  Placement placement;
  placement.width = symbol.width;
  placement.plane_rows = symbol.depth * symbol.height;
  placement.batch_planes = symbol.channels;
  placement.rows = type.shape.size() / std::max<std::int64_t>(1, symbol.width);
  placement.row_stride = static_cast<std::size_t>(symbol.row_stride);
  placement.plane_stride = static_cast<std::size_t>(symbol.plane_stride);
  placement.batch_stride = static_cast<std::size_t>(symbol.batch_stride);
  placement.bytes = static_cast<std::size_t>(symbol.batch_stride * symbol.batches);
  return placement;
}

bool same_sizes(const TensorType& type, const Symbol& symbol) {
  const std::int64_t width = type.shape.rank() == 0 ? 1 : type.shape.back();
  return symbol.width == width &&
         symbol.batches * symbol.channels * symbol.depth * symbol.height * width == type.shape.size();
}

// No row in another, no plane in another, no batch in another.
bool holds(const Placement& placement, std::size_t element) {
  const auto count = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  return placement.row_stride >= count(placement.width) * element &&
         placement.plane_stride >= count(placement.plane_rows) * placement.row_stride &&
         placement.batch_stride >= count(placement.batch_planes) * placement.plane_stride;
}

}  // namespace

std::size_t Placement::row_at(std::int64_t row) const {
  const std::int64_t plane = row / plane_rows;
  return static_cast<std::size_t>(row % plane_rows) * row_stride +
         static_cast<std::size_t>(plane % batch_planes) * plane_stride +
         static_cast<std::size_t>(plane / batch_planes) * batch_stride;
}

bool Placement::dense(std::size_t element) const {
  const std::size_t row = static_cast<std::size_t>(width) * element;
  return row_stride == row && row_at(rows - 1) == static_cast<std::size_t>(rows - 1) * row;
}

Placement place(const TensorType& type, const Symbol* symbol, const Profile& profile) {
  if (symbol == nullptr) return by_rules(type, profile);
  if (!same_sizes(type, *symbol))
    fail("ane: the loaded program has ", symbol->name, " as (", symbol->batches, ", ", symbol->channels, ", ",
         symbol->depth * symbol->height, ", ", symbol->width, "), ", type, " is expected");
  if (symbol->interleave != 1)
    fail("ane: the loaded program has ", symbol->interleave, " channels of ", symbol->name,
         " interleaved; only values that are not are known here");
  Placement placement = as_reported(type, *symbol);
  if (!holds(placement, dtype_size(type.dtype)))
    fail("ane: the loaded program reports strides for ", symbol->name, " that do not hold ", type);
  return placement;
}

void write_rows(const Tensor& value, const Placement& placement, void* surface) {
  const std::size_t row = static_cast<std::size_t>(placement.width) * dtype_size(value.dtype());
  auto* to = static_cast<std::byte*>(surface);
  for (std::int64_t r = 0; r < placement.rows; ++r)
    std::memcpy(to + placement.row_at(r), value.data() + static_cast<std::size_t>(r) * row, row);
}

void read_rows(const Tensor& value, const Placement& placement, const void* surface) {
  const std::size_t row = static_cast<std::size_t>(placement.width) * dtype_size(value.dtype());
  const auto* from = static_cast<const std::byte*>(surface);
  for (std::int64_t r = 0; r < placement.rows; ++r)
    std::memcpy(value.data() + static_cast<std::size_t>(r) * row, from + placement.row_at(r), row);
}

}  // namespace orion::ane
