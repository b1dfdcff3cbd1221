// Single ops that a profile rejects, in terms of ops that it takes. Each rule is named by the limit it meets.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace orion::ane {
namespace {

using Ints = std::vector<std::int64_t>;

// Below every score, and finite when another score is added.
constexpr double least_score = -3e4;
constexpr std::int64_t longest_softmax = 2048;

// -- roots and powers -----------------------------------------------------------------------------

Value shifted(Value x, double epsilon) {
  return epsilon == 0.0 ? x : ops::add(x, scalar_like(x, epsilon));
}

Value replace_rsqrt(const RewriteCall& call) {
  const Value x = shifted(call.in[0], call.node.number("epsilon"));
  return ops::pow(x, scalar_like(x, -0.5));
}

bool is_constant(const Node& node, double value) {
  return node.is("const") && node.type.shape.size() == 1 && node.value.at(0) == value;
}

// x^2 = x x, else x^y = exp(y log x). That is NaN below zero, as x^y is for all y but whole numbers.
Value replace_pow(const RewriteCall& call) {
  const Node& exponent = call.in[1].node();
  if (is_constant(exponent, 2.0)) return ops::mul(call.in[0], call.in[0]);
  if (!exponent.is("const") || exponent.type.shape.size() != 1 ||
      std::floor(exponent.value.at(0)) == exponent.value.at(0))
    fail("pow-rejected-m1: node '", call.node.name,
         "' raises to a power that may be a whole number; write it as products");
  return ops::exp(ops::mul(call.in[1], ops::log(call.in[0])));
}

Value replace_sqrt(const RewriteCall& call) {
  return ops::exp(ops::mul(ops::log(call.in[0]), scalar_like(call.in[0], 0.5)));
}

// (1 + tanh(x / 2)) / 2
Value replace_sigmoid(const RewriteCall& call) {
  const Value half = scalar_like(call.in[0], 0.5);
  return ops::add(ops::mul(ops::tanh(ops::mul(call.in[0], half)), half), half);
}

// -- sums -----------------------------------------------------------------------------------------

// The mean of x is m times the mean of x / m, with m the largest magnitude: no sum leaves fp16's range.
Value replace_reduce_mean(const RewriteCall& call) {
  const Value x = call.in[0];
  const Ints& axes = call.node.list("axes");
  constexpr double least = 0x1p-14;  // the smallest normal fp16, for rows of zeros
  const Value m = ops::maximum(ops::reduce_max(ops::abs(x), axes, true), scalar_like(x, least));
  return reshaped(ops::mul(m, bounded_mean(ops::real_div(x, m), axes)), call.node.type.shape);
}

Value replace_reduce_sum(const RewriteCall& call) {
  return reshaped(wide_sum(call.in[0], call.node.list("axes")), call.node.type.shape);
}

// -- softmax --------------------------------------------------------------------------------------

Value softmax_written_out(const RewriteCall& call) {
  const Value x = call.in[0];
  const Ints axis = {call.node.integer("axis")};
  const Value powers = ops::exp(ops::sub(x, ops::reduce_max(x, axis, true)));
  return ops::real_div(powers, ops::reduce_sum(powers, axis, true));
}

Value softmax_padded(const RewriteCall& call, std::int64_t size, std::int64_t wanted) {
  const Shape shape = call.node.type.shape;
  Ints pad(2 * static_cast<std::size_t>(shape.rank()), 0);
  const auto axis = static_cast<std::size_t>(call.node.integer("axis"));
  pad[2 * axis + 1] = wanted - size;
  const Value padded = ops::pad(call.in[0], pad, "constant", least_score);
  const Value y = ops::softmax(padded, static_cast<std::int64_t>(axis));
  return ops::slice_by_index(y, Ints(static_cast<std::size_t>(shape.rank()), 0),
                             {shape.begin(), shape.end()});
}

Value replace_softmax(const RewriteCall& call, const Profile& profile) {
  const std::int64_t size = call.node.type.shape[static_cast<int>(call.node.integer("axis"))];
  if (profile.has("softmax-long-axis") && size > longest_softmax) return softmax_written_out(call);
  const auto power = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(size)));
  if (profile.has("softmax-power-of-two") && power != size) return softmax_padded(call, size, power);
  return {};
}

// -- products over a batch -----------------------------------------------------------------------

Shape with_folded_batch(const Shape& shape) {
  return {1, shape[0] * shape[1], shape[2], shape[3]};
}

// (N, C, H, W) x (1, 1, H, W), where N and C are as good as N C channels.
Value mul_over_batch(const RewriteCall& call) {
  const Shape& shape = call.node.type.shape;
  const auto stretches = [](const Value& value) {
    return value.shape().rank() == 4 && value.shape()[0] == 1 && value.shape()[1] == 1;
  };
  if (shape.rank() != 4 || shape[0] == 1) return {};
  for (const std::size_t small : {0U, 1U}) {
    const Value whole = call.in[1 - small];
    if (!stretches(call.in[small]) || whole.shape().rank() != 4 || whole.shape()[0] != shape[0]) continue;
    const Value y = ops::mul(reshaped(whole, with_folded_batch(whole.shape())), call.in[small]);
    return reshaped(y, shape);
  }
  return {};
}

// -- concat ---------------------------------------------------------------------------------------

// x among zeros: `before` elements before it along `axis`, `total` with it.
Value placed(Value x, std::size_t axis, std::int64_t before, std::int64_t total) {
  Ints pad(2 * static_cast<std::size_t>(x.shape().rank()), 0);
  pad[2 * axis] = before;
  pad[2 * axis + 1] = total - before - x.shape()[static_cast<int>(axis)];
  return ops::pad(x, pad);
}

// The same axis in two, the second of size 1.
Shape with_inner_one(const Shape& shape, std::size_t axis) {
  Shape result;
  for (int i = 0; i < shape.rank(); ++i) {
    result.append(shape[i]);
    if (static_cast<std::size_t>(i) == axis) result.append(1);
  }
  return result;
}

// concat((a, b)) = pad(a, after) + pad(b, before). Interleaved, the parts meet along an axis of their own.
Value replace_concat(const RewriteCall& call) {
  const bool interleave = call.node.flag("interleave");
  if (interleave && call.node.type.shape.rank() == Shape::max_rank)
    fail("rank-five: interleaving '", call.node.name, "' of ", call.node.type,
         " needs one axis more than the engine has");
  auto axis = static_cast<std::size_t>(call.node.integer("axis"));
  std::vector<Value> parts = call.in;
  if (interleave) {
    for (Value& part : parts) part = reshaped(part, with_inner_one(part.shape(), axis));
    ++axis;
  }
  std::int64_t total = 0;
  for (const Value& part : parts) total += part.shape()[static_cast<int>(axis)];
  Value sum;
  std::int64_t before = 0;
  for (const Value& part : parts) {
    const Value among_zeros = placed(part, axis, before, total);
    sum = sum ? ops::add(sum, among_zeros) : among_zeros;
    before += part.shape()[static_cast<int>(axis)];
  }
  return reshaped(sum, call.node.type.shape);
}

// -- products with what is known at run time only ------------------------------------------------

// conv with a kernel (O, C, 1, 1) that is known at run time only: kernel (O, C) @ x (N, C, positions)
Value conv_as_matmul(const RewriteCall& call) {
  if (is_known(call.graph, call.in[1].id) || !is_pointwise(call.node, call.in[1].shape())) return {};
  const Shape x = call.in[0].shape();
  const Shape kernel = call.in[1].shape();
  const Value columns = reshaped(call.in[0], {x[0], x[1], x.size() / x[0] / x[1]});
  const Value y = ops::matmul(reshaped(call.in[1], {1, kernel[0], kernel[1]}), columns);
  return reshaped(y, call.node.type.shape);
}

Value replaced(const RewriteCall& call, const Profile& profile) {
  const auto rejected = [&](std::string_view op, std::string_view limit) {
    return call.node.is(op) && profile.has(limit);
  };
  if (rejected("reduce_mean", "reduce-mean-rejected")) return replace_reduce_mean(call);
  if (rejected("reduce_sum", "reduce-sum-narrow")) return replace_reduce_sum(call);
  if (rejected("rsqrt", "rsqrt-rejected")) return replace_rsqrt(call);
  if (rejected("pow", "pow-rejected-m1")) return replace_pow(call);
  if (rejected("sqrt", "sqrt-wrong-m1")) return replace_sqrt(call);
  if (rejected("sigmoid", "sigmoid-table")) return replace_sigmoid(call);
  if (rejected("concat", "concat-rejected")) return replace_concat(call);
  if (rejected("conv", "conv-weight-constant")) return conv_as_matmul(call);
  if (rejected("mul", "mul-batch-broadcast"))
    if (const Value product = mul_over_batch(call)) return product;
  if (rejected("identity", "identity-rejected")) return call.in[0];
  return call.node.is("softmax") ? replace_softmax(call, profile) : Value{};
}

}  // namespace

//   %1 = rsqrt(x=%0, epsilon=1e-05)
// becomes, in two rounds where pow is rejected too,
//   %1 = add(x=%0, y=1e-05)
//   %2 = exp(x=mul(x=-0.5, y=log(x=%1)))
Graph replace_rejected_ops(const Graph& graph, const Profile& profile) {
  // A replacement may need replacing: rsqrt gives pow.
  bool changed = true;
  Graph current = graph;
  while (changed) {
    changed = false;
    current = rewrite(current, [&](const RewriteCall& call) {
      const Value value = replaced(call, profile);
      changed = changed || value;
      return value;
    });
  }
  return current;
}

}  // namespace orion::ane
