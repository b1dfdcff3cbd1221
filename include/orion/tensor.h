// Element types, shapes and dense tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>

namespace orion {

/// Element types a graph may hold. The names are MIL's: fp16, fp32, int32, bool.
enum class DType : std::uint8_t { fp16, fp32, int32, boolean };

std::string_view dtype_name(DType dtype);
/// Inverse of `dtype_name`; Error for any other name.
DType dtype_from_name(std::string_view name);
/// Bytes per element.
std::size_t dtype_size(DType dtype);
constexpr bool is_float(DType dtype) {
  return dtype == DType::fp16 || dtype == DType::fp32;
}
std::ostream& operator<<(std::ostream& out, DType dtype);

/// Up to five positive sizes, outermost first. Rank 0 is a scalar.
class Shape {
 public:
  static constexpr int max_rank = 5;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes);
  explicit Shape(std::span<const std::int64_t> sizes);
  /// `rank` ones.
  static Shape ones(int rank);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  /// Replaces one size; Error unless it is positive.
  void set(int axis, std::int64_t size);
  void append(std::int64_t size);
  /// Number of elements (1 for a scalar).
  std::int64_t size() const;
  /// Elements between neighbours along `axis` in row-major order.
  std::int64_t stride(int axis) const;
  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  std::int64_t back() const { return sizes_[static_cast<std::size_t>(rank_ - 1)]; }
  bool operator==(const Shape& other) const;

 private:
  std::array<std::int64_t, max_rank> sizes_{};
  int rank_ = 0;
};

/// Prints as Python would: (1, 64, 1, 32).
std::ostream& operator<<(std::ostream& out, const Shape& shape);

struct TensorType {
  DType dtype = DType::fp32;
  Shape shape;

  std::size_t bytes() const { return static_cast<std::size_t>(shape.size()) * dtype_size(dtype); }
  bool operator==(const TensorType&) const = default;
};

/// Prints as `fp16 (1, 64, 1, 32)`.
std::ostream& operator<<(std::ostream& out, const TensorType& type);

/// A dense row-major array. Copies share the memory; `clone` does not.
class Tensor {
 public:
  Tensor() = default;
  /// Zero-filled, 64-byte aligned.
  explicit Tensor(TensorType type);
  /// Somebody else's memory; `owner` keeps it alive.
  static Tensor view(TensorType type, void* data, std::shared_ptr<const void> owner = nullptr);
  static Tensor scalar(DType dtype, double value);
  static Tensor from_ints(std::span<const std::int32_t> values);

  const TensorType& type() const { return type_; }
  DType dtype() const { return type_.dtype; }
  const Shape& shape() const { return type_.shape; }
  std::size_t bytes() const { return type_.bytes(); }
  bool empty() const { return data_ == nullptr; }
  std::byte* data() const { return data_; }

  /// The elements; Error unless sizeof(T) is the element size.
  template <class T>
  std::span<T> as() const {
    check_element_size(sizeof(T));
    return {reinterpret_cast<T*>(data_), static_cast<std::size_t>(type_.shape.size())};
  }

  Tensor clone() const;
  /// The same memory under another shape of equal size.
  Tensor reshaped(const Shape& shape) const;
  /// Element `index` (row-major) as a double, whatever the type.
  double at(std::int64_t index) const;
  /// Same bytes and type (so NaN equals NaN and -0 differs from 0).
  bool identical(const Tensor& other) const;

 private:
  void check_element_size(std::size_t size) const;

  TensorType type_;
  std::byte* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

/// Tensors by name: a program's weights, inputs or outputs.
using TensorMap = std::map<std::string, Tensor, std::less<>>;

/// A copy of `source` in another element type. Floats round to nearest even; float to int truncates
/// toward zero; anything to bool is "differs from zero". Values outside the target's range become
/// infinities (floats) or saturate (ints).
Tensor convert(const Tensor& source, DType dtype);

}  // namespace orion
