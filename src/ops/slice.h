// Strided slices: what slice_by_index, slice_update and the gradients of pad and conv share.
#pragma once

#include "ops/rules.h"

namespace orion {

/// What a slice takes from one axis: `count` elements from `begin` in steps of `stride`.
struct AxisSlice {
  std::int64_t begin = 0;
  std::int64_t count = 1;
  std::int64_t stride = 1;
  bool squeezed = false;  // the axis disappears from the result
};

using Slice = std::vector<AxisSlice>;  // one per axis of the tensor

/// The same as slice_by_index's attributes, in canonical form.
struct SliceAttrs {
  std::vector<std::int64_t> begin, end, stride, begin_mask, end_mask, squeeze_mask;
};

/// Completes `stride`, `begin_mask`, `end_mask` and `squeeze_mask` of a node to one entry per axis.
void canonical_slice_lists(Node& node, int rank);

/// x[begin:end:stride] as in NumPy, under the stride and masks of `node`: negative indices count from
/// the end, ends beyond the tensor are cut. Error if nothing is left.
Slice resolve_slice(const Node& node, const Shape& x, std::span<const std::int64_t> begin,
                    std::span<const std::int64_t> end);

SliceAttrs slice_attrs(const Slice& slice);

/// Shape of the result.
Shape sliced_shape(const Slice& slice);

/// Calls `body(i, offset)` for every element i of the result, with its offset in the tensor sliced.
template <class Body>
void for_each_sliced(const Shape& x, const Slice& slice, Body&& body) {
  Shape counts;
  std::int64_t start = 0;
  std::array<Strides, 1> strides{};
  for (int axis = 0; axis < x.rank(); ++axis) {
    const AxisSlice& s = slice[static_cast<std::size_t>(axis)];
    counts.append(s.count);
    start += s.begin * x.stride(axis);
    strides[0][static_cast<std::size_t>(axis)] = s.stride * x.stride(axis);
  }
  for_each<1>(counts, strides, [&](std::int64_t i, const auto& at) { body(i, start + at[0]); });
}

/// Where an operand of concat, or the one of pad, lies in the result.
Slice place_in_concat(const Node& node, std::span<const Shape> operands, std::size_t arg);
Slice place_in_pad(const Node& node, const Shape& x);

/// The slice as a node; x itself if it takes everything.
Value take(Value x, const Slice& slice);
/// The transpose of `take`: zeros of `shape` with `dy` where the slice was.
Value put_back(Value dy, const Shape& shape, const Slice& slice);

/// The slice_by_index row of the op table.
OpDef slice_by_index_op();

}  // namespace orion
