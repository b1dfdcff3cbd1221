#include "orion/tensor.h"

#include "base/f16.h"
#include "base/memory.h"
#include "orion/error.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace orion {
namespace {

struct Name {
  DType dtype;
  std::string_view name;
  std::size_t size;
};

constexpr Name names[] = {{DType::fp16, "fp16", 2},
                          {DType::fp32, "fp32", 4},
                          {DType::int32, "int32", 4},
                          {DType::boolean, "bool", 1}};

const Name& entry(DType dtype) {
  return names[static_cast<std::size_t>(dtype)];
}

std::int32_t saturate_int(double value) {
  if (std::isnan(value)) return 0;
  constexpr double lowest = std::numeric_limits<std::int32_t>::min();
  constexpr double highest = std::numeric_limits<std::int32_t>::max();
  return static_cast<std::int32_t>(std::clamp(std::trunc(value), lowest, highest));
}

void store(const Tensor& tensor, std::size_t index, double value) {
  switch (tensor.dtype()) {
    case DType::fp16:
      tensor.as<std::uint16_t>()[index] = float_to_half(static_cast<float>(value));
      break;
    case DType::fp32:
      tensor.as<float>()[index] = static_cast<float>(value);
      break;
    case DType::int32:
      tensor.as<std::int32_t>()[index] = saturate_int(value);
      break;
    case DType::boolean:
      tensor.as<std::uint8_t>()[index] = value != 0.0;
      break;
  }
}

}  // namespace

std::string_view dtype_name(DType dtype) {
  return entry(dtype).name;
}

DType dtype_from_name(std::string_view name) {
  for (const Name& n : names)
    if (n.name == name) return n.dtype;
  fail("unknown dtype '", name, "': fp16, fp32, int32 and bool are known");
}

std::size_t dtype_size(DType dtype) {
  return entry(dtype).size;
}

std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << dtype_name(dtype);
}

Shape::Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const std::int64_t> sizes) {
  for (const std::int64_t size : sizes) append(size);
}

Shape Shape::ones(int rank) {
  Shape shape;
  for (int i = 0; i < rank; ++i) shape.append(1);
  return shape;
}

void Shape::append(std::int64_t size) {
  if (rank_ == max_rank) fail("a shape has at most ", max_rank, " axes");
  ++rank_;
  set(rank_ - 1, size);
}

void Shape::set(int axis, std::int64_t size) {
  if (size < 1) fail("axis ", axis, " of a shape has size ", size, ", sizes are at least 1");
  sizes_[static_cast<std::size_t>(axis)] = 1;
  if (size > std::numeric_limits<std::int64_t>::max() / 16 / this->size())
    fail("a shape with more elements than memory can hold (axis ", axis, " of size ", size, ")");
  sizes_[static_cast<std::size_t>(axis)] = size;
}

std::int64_t Shape::size() const {
  std::int64_t count = 1;
  for (const std::int64_t size : *this) count *= size;
  return count;
}

std::int64_t Shape::stride(int axis) const {
  std::int64_t stride = 1;
  for (int i = axis + 1; i < rank_; ++i) stride *= (*this)[i];
  return stride;
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(*this, other);
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (int i = 0; i < shape.rank(); ++i) out << (i > 0 ? ", " : "") << shape[i];
  return out << (shape.rank() == 1 ? ",)" : ")");
}

std::ostream& operator<<(std::ostream& out, const TensorType& type) {
  return out << type.dtype << ' ' << type.shape;
}

Tensor::Tensor(TensorType type) : type_(type) {
  const std::shared_ptr<std::byte> memory = zeroed_memory(type.bytes());
  data_ = memory.get();
  owner_ = memory;
}

Tensor Tensor::view(TensorType type, void* data, std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.type_ = type;
  tensor.data_ = static_cast<std::byte*>(data);
  tensor.owner_ = std::move(owner);
  return tensor;
}

Tensor Tensor::scalar(DType dtype, double value) {
  Tensor tensor(TensorType{dtype, {}});
  store(tensor, 0, value);
  return tensor;
}

Tensor Tensor::from_ints(std::span<const std::int32_t> values) {
  Tensor tensor(TensorType{DType::int32, {static_cast<std::int64_t>(values.size())}});
  std::ranges::copy(values, tensor.as<std::int32_t>().begin());
  return tensor;
}

Tensor Tensor::clone() const {
  Tensor copy(type_);
  std::memcpy(copy.data_, data_, bytes());
  return copy;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  if (shape.size() != type_.shape.size())
    fail("reshape: ", type_.shape, " does not hold as many elements as ", shape);
  return view({type_.dtype, shape}, data_, owner_);
}

double Tensor::at(std::int64_t index) const {
  const auto i = static_cast<std::size_t>(index);
  switch (type_.dtype) {
    case DType::fp16:
      return static_cast<double>(half_to_float(as<std::uint16_t>()[i]));
    case DType::fp32:
      return static_cast<double>(as<float>()[i]);
    case DType::int32:
      return as<std::int32_t>()[i];
    case DType::boolean:
      return as<std::uint8_t>()[i];
  }
  return 0;  // unreachable: every DType has a case
}

bool Tensor::identical(const Tensor& other) const {
  if (empty() || other.empty()) return empty() == other.empty();
  return type_ == other.type_ && std::memcmp(data_, other.data_, bytes()) == 0;
}

void Tensor::check_element_size(std::size_t size) const {
  if (size != dtype_size(type_.dtype)) fail("a tensor of ", type_, " read as elements of ", size, " bytes");
}

Tensor convert(const Tensor& source, DType dtype) {
  Tensor target(TensorType{dtype, source.shape()});
  const auto count = static_cast<std::size_t>(source.shape().size());
  if (source.dtype() == dtype) {
    std::memcpy(target.data(), source.data(), source.bytes());
  } else if (source.dtype() == DType::fp32 && dtype == DType::fp16) {
    float_to_half(source.as<float>().data(), target.as<std::uint16_t>().data(), count);
  } else if (source.dtype() == DType::fp16 && dtype == DType::fp32) {
    half_to_float(source.as<std::uint16_t>().data(), target.as<float>().data(), count);
  } else {
    for (std::size_t i = 0; i < count; ++i) store(target, i, source.at(static_cast<std::int64_t>(i)));
  }
  return target;
}

}  // namespace orion
