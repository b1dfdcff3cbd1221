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

}  // namespace

Placement place(const TensorType& type, const Symbol* symbol, const Profile& profile) {
  const std::size_t element = dtype_size(type.dtype);
  Placement placement;
  placement.width = type.shape.rank() == 0 ? 1 : type.shape.back();
  placement.rows = type.shape.size() / placement.width;
  if (symbol == nullptr) {
    placement.row_stride =
        round_up(static_cast<std::size_t>(placement.width) * element, profile.row_alignment);
    const std::size_t needed = static_cast<std::size_t>(placement.rows) * placement.row_stride;
    placement.bytes = std::max(needed, static_cast<std::size_t>(profile.minimum_surface));
    return placement;
  }
  const std::int64_t elements =
      symbol->batches * symbol->channels * symbol->depth * symbol->height * symbol->width;
  if (symbol->width != placement.width || elements != type.shape.size())
    fail("ane: the loaded program has ", symbol->name, " as ", elements, " elements in rows of ",
         symbol->width, ", ", type, " is expected");
  placement.row_stride = static_cast<std::size_t>(symbol->row_stride);
  placement.bytes = static_cast<std::size_t>(symbol->batch_stride * symbol->batches);
  const std::size_t needed = static_cast<std::size_t>(placement.rows) * placement.row_stride;
  if (placement.row_stride < static_cast<std::size_t>(placement.width) * element || placement.bytes < needed)
    fail("ane: the loaded program reports strides for ", symbol->name, " that do not hold ", type);
  return placement;
}

void write_rows(const Tensor& value, const Placement& placement, void* surface) {
  const std::size_t row = static_cast<std::size_t>(placement.width) * dtype_size(value.dtype());
  auto* to = static_cast<std::byte*>(surface);
  for (std::int64_t r = 0; r < placement.rows; ++r)
    std::memcpy(to + static_cast<std::size_t>(r) * placement.row_stride,
                value.data() + static_cast<std::size_t>(r) * row, row);
}

void read_rows(const Tensor& value, const Placement& placement, const void* surface) {
  const std::size_t row = static_cast<std::size_t>(placement.width) * dtype_size(value.dtype());
  const auto* from = static_cast<const std::byte*>(surface);
  for (std::int64_t r = 0; r < placement.rows; ++r)
    std::memcpy(value.data() + static_cast<std::size_t>(r) * row,
                from + static_cast<std::size_t>(r) * placement.row_stride, row);
}

}  // namespace orion::ane
