#include "sim/layout.h"

#include <algorithm>
#include <cstring>

namespace orion::sim {
namespace {

std::string_view symbol_type(DType dtype) {
  switch (dtype) {
    case DType::fp16:
      return "Float16";
    case DType::fp32:
      return "Float32";
    case DType::int32:
      return "Int32";
    case DType::boolean:
      break;
  }
  return "Bool";
}

// Size of the axis that is `from_last` before the last one.
std::int64_t size_at(const Shape& shape, int from_last) {
  return from_last < shape.rank() ? shape[shape.rank() - 1 - from_last] : 1;
}

// A dense tensor of `type` holds the same rows without gaps.
template <class Copy>
void each_row(const ane::Symbol& symbol, const TensorType& type, Copy copy) {
  const std::size_t row = static_cast<std::size_t>(symbol.width) * dtype_size(type.dtype);
  const std::int64_t rows = type.shape.size() / symbol.width;
  for (std::int64_t r = 0; r < rows; ++r)
    copy(static_cast<std::size_t>(r) * row, static_cast<std::size_t>(r * symbol.row_stride), row);
}

}  // namespace

ane::Symbol symbol_of(std::string_view name, const TensorType& type, const ane::Profile& profile) {
  const bool has_depth = type.shape.rank() == Shape::max_rank;
  ane::Symbol symbol{.name = std::string(name), .type = std::string(symbol_type(type.dtype))};
  symbol.width = size_at(type.shape, 0);
  symbol.height = size_at(type.shape, 1);
  symbol.depth = has_depth ? size_at(type.shape, 2) : 1;
  symbol.channels = size_at(type.shape, has_depth ? 3 : 2);
  symbol.batches = size_at(type.shape, has_depth ? 4 : 3);
  const std::int64_t row = symbol.width * static_cast<std::int64_t>(dtype_size(type.dtype));
  symbol.row_stride = (row + profile.row_alignment - 1) / profile.row_alignment * profile.row_alignment;
  symbol.plane_stride = symbol.row_stride * symbol.height * symbol.depth;
  symbol.batch_stride = symbol.plane_stride * symbol.channels;
  if (symbol.batches == 1) symbol.batch_stride = std::max(symbol.batch_stride, profile.minimum_surface);
  return symbol;
}

std::size_t bytes_needed(const ane::Symbol& symbol) {
  return static_cast<std::size_t>(symbol.batch_stride * symbol.batches);
}

Tensor read_surface(const ane::Symbol& symbol, const TensorType& type, const std::byte* surface,
                    const Arithmetic& arithmetic) {
  const Tensor dense(type);
  each_row(symbol, type, [&](std::size_t at, std::size_t on_surface, std::size_t bytes) {
    std::memcpy(dense.data() + at, surface + on_surface, bytes);
  });
  return as_engine_values(dense, arithmetic);
}

void write_surface(const ane::Symbol& symbol, const TensorType& type, const Tensor& value,
                   std::byte* surface) {
  const Tensor dense = convert(value, type.dtype);
  each_row(symbol, type, [&](std::size_t at, std::size_t on_surface, std::size_t bytes) {
    std::memcpy(surface + on_surface, dense.data() + at, bytes);
  });
}

}  // namespace orion::sim
