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

constexpr std::string_view int8_type = "Int8";

// A dense tensor of `type`, its elements as wide as the surface's, holds the same rows without gaps.
template <class Copy>
void each_row(const ane::Symbol& symbol, const TensorType& type, std::size_t element, Copy copy) {
  const std::size_t row = static_cast<std::size_t>(symbol.width) * element;
  const std::int64_t rows = type.shape.size() / symbol.width;
  for (std::int64_t r = 0; r < rows; ++r)
    copy(static_cast<std::size_t>(r) * row, static_cast<std::size_t>(r * symbol.row_stride), row);
}

}  // namespace

namespace {

ane::Symbol symbol_of_elements(std::string_view name, std::string_view element_type, std::size_t element,
                               const TensorType& type, const ane::Profile& profile) {
  const bool has_depth = type.shape.rank() == Shape::max_rank;
  ane::Symbol symbol{.name = std::string(name), .type = std::string(element_type)};
  symbol.width = size_at(type.shape, 0);
  symbol.height = size_at(type.shape, 1);
  symbol.depth = has_depth ? size_at(type.shape, 2) : 1;
  symbol.channels = size_at(type.shape, has_depth ? 3 : 2);
  symbol.batches = size_at(type.shape, has_depth ? 4 : 3);
  const std::int64_t row = symbol.width * static_cast<std::int64_t>(element);
  symbol.row_stride = (row + profile.row_alignment - 1) / profile.row_alignment * profile.row_alignment;
  symbol.plane_stride = symbol.row_stride * symbol.height * symbol.depth;
  symbol.batch_stride = symbol.plane_stride * symbol.channels;
  if (symbol.batches == 1) symbol.batch_stride = std::max(symbol.batch_stride, profile.minimum_surface);
  return symbol;
}

Tensor read_int8(const ane::Symbol& symbol, const TensorType& type, const std::byte* surface) {
  std::vector<std::int8_t> dense(static_cast<std::size_t>(type.shape.size()));
  each_row(symbol, type, 1, [&](std::size_t at, std::size_t on_surface, std::size_t bytes) {
    std::memcpy(dense.data() + at, surface + on_surface, bytes);
  });
  const Tensor values(TensorType{DType::fp32, type.shape});
  std::ranges::copy(dense, values.as<float>().begin());
  return convert(values, type.dtype);
}

}  // namespace

ane::Symbol symbol_of(std::string_view name, const TensorType& type, const ane::Profile& profile) {
  return symbol_of_elements(name, symbol_type(type.dtype), dtype_size(type.dtype), type, profile);
}

ane::Symbol int8_symbol_of(std::string_view name, const TensorType& type, const ane::Profile& profile) {
  return symbol_of_elements(name, int8_type, 1, type, profile);
}

std::size_t bytes_needed(const ane::Symbol& symbol) {
  return static_cast<std::size_t>(symbol.batch_stride * symbol.batches);
}

Tensor read_surface(const ane::Symbol& symbol, const TensorType& type, const std::byte* surface,
                    const Arithmetic& arithmetic) {
  if (symbol.type == int8_type) return as_engine_values(read_int8(symbol, type, surface), arithmetic);
  const Tensor dense(type);
  each_row(symbol, type, dtype_size(type.dtype),
           [&](std::size_t at, std::size_t on_surface, std::size_t bytes) {
             std::memcpy(dense.data() + at, surface + on_surface, bytes);
           });
  return as_engine_values(dense, arithmetic);
}

void write_surface(const ane::Symbol& symbol, const TensorType& type, const Tensor& value,
                   std::byte* surface) {
  const Tensor dense = convert(value, type.dtype);
  each_row(symbol, type, dtype_size(type.dtype),
           [&](std::size_t at, std::size_t on_surface, std::size_t bytes) {
             std::memcpy(surface + on_surface, dense.data() + at, bytes);
           });
}

}  // namespace orion::sim
