// What type rules, kernels and gradients of all op families share.
#pragma once

#include "orion/error.h"
#include "orion/op.h"

#include <array>

namespace orion {

// -- type rules -----------------------------------------------------------------------------------

/// Type of operand `arg`, which must be present.
const TensorType& operand(const Graph& graph, const Node& node, std::size_t arg);
bool given(const Node& node, std::size_t arg);
/// Name of operand `arg` in the table.
std::string_view arg_name(const Node& node, std::size_t arg);

void require_float(const Graph& graph, const Node& node, std::size_t arg);
void require_dtype(const Graph& graph, const Node& node, std::size_t arg, DType dtype);
/// Float or int32.
void require_number(const Graph& graph, const Node& node, std::size_t arg);
void require_same_dtype(const Graph& graph, const Node& node, std::size_t first, std::size_t second);

void require_same_shape(const Graph& graph, const Node& node, std::size_t first, std::size_t second);

/// NumPy's (and MIL's) broadcasting: trailing axes aligned, size 1 stretches.
Shape broadcast(const Node& node, const Shape& a, const Shape& b);

/// `axis` counted from the front; Error if it is not one of `rank`'s.
std::int64_t normal_axis(const Node& node, std::string_view attr, std::int64_t axis, int rank);
/// Brings an axis attribute of `node` to its canonical form and returns it.
int canonical_axis(Node& node, std::string_view attr, int rank);
/// The same for a list of axes: non-negative, ascending, without duplicates. `empty_means_all` fills
/// an empty list with every axis.
void canonical_axes(Node& node, std::string_view attr, int rank, bool empty_means_all);
/// Rounds a number attribute to `dtype`, as MIL text stores it.
void canonical_number(Node& node, std::string_view attr, DType dtype);
/// `shape` with size 1 on each of `axes`.
Shape with_ones(const Shape& shape, std::span<const std::int64_t> axes);
/// Whether an operand is known when a program is compiled: a const or a weight, which MIL calls const.
bool is_constant(const Graph& graph, const Node& node, std::size_t arg);
/// An `in_mil` rule: MIL lacks the op.
bool not_in_mil(const Graph& graph, const Node& node);
/// Replaces an attribute.
void set_attr(Node& node, std::string_view attr, Attr value);

// -- kernels --------------------------------------------------------------------------------------

using Strides = std::array<std::int64_t, Shape::max_rank>;

/// Row-major strides of `from` (in elements) seen as `to`: 0 along axes that broadcast.
Strides broadcast_strides(const Shape& from, const Shape& to);

/// Calls `body(i, offset_0, offset_1, ...)` for every element i of `shape`, in order, with the matching
/// offset into each of N arrays of the given strides.
template <std::size_t N, class Body>
void for_each(const Shape& shape, const std::array<Strides, N>& strides, Body&& body) {
  std::array<std::int64_t, Shape::max_rank> index{};
  std::array<std::int64_t, N> offset{};
  const std::int64_t size = shape.size();
  for (std::int64_t i = 0; i < size; ++i) {
    body(i, offset);
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      for (std::size_t n = 0; n < N; ++n) offset[n] += strides[n][a];
      if (++index[a] < shape[axis]) break;
      for (std::size_t n = 0; n < N; ++n) offset[n] -= strides[n][a] * shape[axis];
      index[a] = 0;
    }
  }
}

/// Copies `count` neighbouring elements between arrays of the same element type.
void copy_elements(const View& from, std::int64_t from_at, const View& to, std::int64_t to_at,
                   std::int64_t count = 1);

// -- gradients and expansions ---------------------------------------------------------------------

/// Sums `dy` over the axes along which `shape` was broadcast, giving back `shape`.
Value sum_to(Value dy, const Shape& shape);
/// x under another shape of equal size; x itself if it has that shape.
Value reshaped(Value x, const Shape& shape);
/// x in the element type of `like`.
Value cast_like(Value x, Value like);
/// A scalar constant of `like`'s type.
Value scalar_like(Value like, double value);
/// Zeros of a type, from one constant scalar.
Value zeros(Graph& graph, const TensorType& type);
/// A constant of int32s.
Value ints(Graph& graph, std::span<const std::int64_t> values);
/// 0, 1, ... count - 1 as an int32 constant.
Value counting(Graph& graph, std::int64_t count);

}  // namespace orion
