#include "mil/foreign.h"

#include "orion/error.h"
#include "orion/ops.h"
#include "orion/split.h"

#include <algorithm>
#include <set>

namespace orion::mil {
namespace {

using Ints = std::vector<std::int64_t>;

// Axes counted from the front; Error if one is not below `rank` or comes twice.
std::set<std::int64_t> normal_axes(std::string_view op, const Ints& axes, std::int64_t rank) {
  std::set<std::int64_t> result;
  for (const std::int64_t axis : axes) {
    if (axis < -rank || axis >= rank) fail(op, ": axis ", axis, " of ", rank);
    if (!result.insert(axis < 0 ? axis + rank : axis).second) fail(op, ": axis ", axis, " comes twice");
  }
  return result;
}

std::vector<Value> build_split(const ForeignCall& call) {
  const Ints* sizes = call.list("split_sizes");
  const std::optional<std::int64_t> count = call.integer("num_splits");
  const std::optional<std::int64_t> axis = call.integer("axis");
  if (!axis || (sizes == nullptr && !count)) fail("split: axis, and num_splits or split_sizes, are needed");
  const std::size_t pieces = sizes != nullptr ? sizes->size() : static_cast<std::size_t>(*count);
  if (pieces != call.results) fail("split: ", pieces, " pieces for ", call.results, " results");
  return sizes != nullptr ? split(call.in[0], *sizes, *axis) : split(call.in[0], *count, *axis);
}

// size -1: up to the end.
std::vector<Value> build_slice_by_size(const ForeignCall& call) {
  const Shape x = call.in[0].shape();
  const Ints* begin = call.list("begin");
  const Ints* size = call.list("size");
  const auto rank = static_cast<std::size_t>(x.rank());
  if (begin == nullptr || size == nullptr || begin->size() != rank || size->size() != rank)
    fail("slice_by_size: begin and size must be constants with ", rank, " elements");
  Ints first = *begin;
  Ints end;
  for (int axis = 0; axis < x.rank(); ++axis) {
    std::int64_t& from = first[static_cast<std::size_t>(axis)];
    const std::int64_t count = (*size)[static_cast<std::size_t>(axis)];
    if (from < -x[axis] || from >= x[axis])
      fail("slice_by_size: begin ", from, " on an axis of size ", x[axis]);
    if (from < 0) from += x[axis];
    if (count != -1 && (count < 1 || count > x[axis] - from))
      fail("slice_by_size: ", count, " elements from ", from, " on an axis of size ", x[axis]);
    end.push_back(count == -1 ? x[axis] : from + count);
  }
  return {ops::slice_by_index(call.in[0], first, end)};
}

std::vector<Value> build_expand_dims(const ForeignCall& call) {
  const Shape x = call.in[0].shape();
  const Ints* axes = call.list("axes");
  if (axes == nullptr) fail("expand_dims: axes must be a constant");
  const std::int64_t rank = x.rank() + static_cast<std::int64_t>(axes->size());
  const std::set<std::int64_t> added = normal_axes("expand_dims", *axes, rank);
  Ints sizes;
  int next = 0;
  for (std::int64_t axis = 0; axis < rank; ++axis) sizes.push_back(added.contains(axis) ? 1 : x[next++]);
  return {ops::reshape(call.in[0], sizes)};
}

std::vector<Value> build_squeeze(const ForeignCall& call) {
  const Shape x = call.in[0].shape();
  const Ints* axes = call.list("axes");
  const std::set<std::int64_t> named = normal_axes("squeeze", axes != nullptr ? *axes : Ints{}, x.rank());
  Ints sizes;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const bool removed = axes != nullptr ? named.contains(axis) : x[axis] == 1;
    if (removed && x[axis] != 1) fail("squeeze: axis ", axis, " has size ", x[axis]);
    if (!removed) sizes.push_back(x[axis]);
  }
  return {ops::reshape(call.in[0], sizes)};
}

// x (..., I), weight (O, I), bias (O,) -> (..., O)
std::vector<Value> build_linear(const ForeignCall& call) {
  if (call.in[1].shape().rank() != 2) fail("linear: weight is ", call.in[1].type(), ", two axes are needed");
  const Value product = ops::matmul(call.in[0], call.in[1], false, true);
  return {call.in[2] ? ops::add(product, call.in[2]) : product};
}

}  // namespace

const std::vector<std::int64_t>* ForeignCall::list(std::string_view attr) const {
  const auto found = attrs.find(attr);
  return found == attrs.end() ? nullptr : &std::get<Ints>(found->second);
}

std::optional<std::int64_t> ForeignCall::integer(std::string_view attr) const {
  const auto found = attrs.find(attr);
  return found == attrs.end() ? std::nullopt : std::optional(std::get<std::int64_t>(found->second));
}

const ForeignOp* find_foreign_op(std::string_view name) {
  static const std::vector<ForeignOp> table = {
      {.name = "split",
       .args = {{"x"}},
       .attrs = {{"num_splits", AttrKind::integer},
                 {"split_sizes", AttrKind::integers},
                 {"axis", AttrKind::integer}},
       .build = build_split},
      {.name = "slice_by_size",
       .args = {{"x"}},
       .attrs = {{"begin", AttrKind::integers}, {"size", AttrKind::integers}},
       .build = build_slice_by_size},
      {.name = "expand_dims",
       .args = {{"x"}},
       .attrs = {{"axes", AttrKind::integers}},
       .build = build_expand_dims},
      {.name = "squeeze", .args = {{"x"}}, .attrs = {{"axes", AttrKind::integers}}, .build = build_squeeze},
      {.name = "linear",
       .args = {{"x"}, {"weight"}, {"bias", ArgKind::optional}},
       .attrs = {},
       .build = build_linear},
  };
  const auto found = std::ranges::find(table, name, &ForeignOp::name);
  return found == table.end() ? nullptr : &*found;
}

}  // namespace orion::mil
