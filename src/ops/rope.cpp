// Rotary position embedding: pairs of features turned by an angle that grows with the position.
#include "ops/composite.h"
#include "ops/rules.h"
#include "ops/slice.h"
#include "orion/ops.h"

namespace orion {
namespace {

using Values = std::vector<Value>;

Shape half(const Shape& x) {
  Shape shape = x;
  shape.set(x.rank() - 1, x.back() / 2);
  return shape;
}

TensorType rope_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  const TensorType& x = operand(graph, node, 0);
  if (x.shape.rank() < 1 || x.shape.back() % 2 != 0)
    fail("rope: x is ", x, ", its last axis must hold pairs");
  for (const std::size_t arg : {std::size_t{1}, std::size_t{2}}) {
    require_same_dtype(graph, node, 0, arg);
    const Shape& table = operand(graph, node, arg).shape;
    if (table.rank() < 1 || table.back() != x.shape.back() / 2 ||
        broadcast(node, table, half(x.shape)) != half(x.shape))
      fail("rope: ", arg_name(node, arg), " is ", table, ", it must stretch to ", half(x.shape),
           ", one angle for each pair");
  }
  return x;
}

void rope_kernel(const KernelCall& call) {
  const float* x = call.in[0].as<float>();
  float* y = call.out.as<float>();
  const Shape pairs = half(call.out.shape);
  const std::int64_t count = pairs.back();
  const bool interleaved = call.node.flag("interleaved");
  const std::array strides = {broadcast_strides(call.in[1].shape, pairs),
                              broadcast_strides(call.in[2].shape, pairs)};
  for_each<2>(pairs, strides, [&](std::int64_t i, const auto& at) {
    const std::int64_t start = i / count * 2 * count;
    const std::int64_t first = start + (interleaved ? i % count * 2 : i % count);
    const std::int64_t second = first + (interleaved ? 1 : count);
    const float cos = call.in[1].as<float>()[at[0]];
    const float sin = call.in[2].as<float>()[at[1]];
    const float x1 = x[first];
    const float x2 = x[second];
    y[first] = x1 * cos - x2 * sin;
    y[second] = x2 * cos + x1 * sin;
  });
}

struct Pairs {
  Value first, second;
};

Slice every_other(const Shape& x, std::int64_t begin, std::int64_t count, std::int64_t stride) {
  Slice slice;
  for (const std::int64_t size : x) slice.push_back({.count = size});
  slice.back() = {.begin = begin, .count = count, .stride = count == 1 ? 1 : stride};
  return slice;
}

Pairs pairs_of(const Node& node, Value x) {
  const Shape shape = x.shape();
  const std::int64_t count = shape.back() / 2;
  const bool interleaved = node.flag("interleaved");
  const std::int64_t stride = interleaved ? 2 : 1;
  return {take(x, every_other(shape, 0, count, stride)),
          take(x, every_other(shape, interleaved ? 1 : count, count, stride))};
}

// A turn is undone by the opposite turn, so dx = rope(dy, cos, -sin).
Values rope_gradient(const GradientCall& c) {
  const Pairs x = pairs_of(c.node, c.in[0]);
  const Pairs dy = pairs_of(c.node, c.dy);
  const Value dcos = ops::add(ops::mul(x.first, dy.first), ops::mul(x.second, dy.second));
  const Value dsin = ops::sub(ops::mul(x.first, dy.second), ops::mul(x.second, dy.first));
  return {ops::rope(c.dy, c.in[1], ops::neg(c.in[2]), c.node.flag("interleaved")),
          sum_to(dcos, c.in[1].shape()), sum_to(dsin, c.in[2].shape())};
}

Value expand_rope(const ExpandCall& c) {
  const Pairs x = pairs_of(c.node, c.in[0]);
  const Value cos = c.in[1];
  const Value sin = c.in[2];
  const Value first = ops::sub(ops::mul(x.first, cos), ops::mul(x.second, sin));
  const Value second = ops::add(ops::mul(x.second, cos), ops::mul(x.first, sin));
  return ops::concat({first, second}, -1, c.node.flag("interleaved"));
}

}  // namespace

OpDef rope_op() {
  return {.name = "rope",
          .doc =
              "Rotary position embedding: each pair (x1, x2) of the last axis becomes (x1 cos - x2 sin, x2 "
              "cos + x1 sin).\n\nx (..., T, D); cos and sin stretch to (..., T, D / 2), one angle for each "
              "pair. Pair i is (i, i + D / 2) as in Hugging Face's models, or (2 i, 2 i + 1) if interleaved, "
              "as in llama2.c.",
          .args = {{"x"}, {"cos"}, {"sin"}},
          .attrs = {{"interleaved", AttrKind::boolean, false}},
          .infer = rope_type,
          .kernel = rope_kernel,
          .gradient = rope_gradient,
          .expand = expand_rope,
          .in_mil = not_in_mil};
}

}  // namespace orion
