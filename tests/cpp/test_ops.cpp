// The op families where C++ callers meet them: canonical forms, splits, hostile attributes. Values and
// gradients of every op are in tests/python/test_ops.py.
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"
#include "orion/passes.h"
#include "orion/split.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace orion;
namespace ops = orion::ops;

namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::lowest();
constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max();

Value input(Graph& g, const Shape& shape, DType dtype = DType::fp32) {
  return g.input("x" + std::to_string(g.size()), {dtype, shape});
}

// The only output of a graph on 0, 1, 2, ...
Tensor run_on_counting(const Graph& graph) {
  TensorMap inputs;
  for (const NodeId id : graph.inputs()) {
    const Tensor tensor(graph.node(id).type);
    for (std::int64_t i = 0; i < tensor.shape().size(); ++i)
      tensor.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(i);
    inputs[graph.node(id).name] = tensor;
  }
  return evaluate(graph, inputs, {}).begin()->second;
}

Ints elements(const Tensor& tensor) {
  Ints values;
  for (std::int64_t i = 0; i < tensor.shape().size(); ++i)
    values.push_back(static_cast<std::int64_t>(tensor.at(i)));
  return values;
}

}  // namespace

TEST_CASE("slice_by_index is canonical: non-negative, tight, masks only where they must be") {
  Graph g;
  const Value x = input(g, {10, 7});
  const Node& forward = ops::slice_by_index(x, {-9, 0}, {99, 0}, {4, 1}, {}, {0, 1}).node();
  CHECK(forward.list("begin") == Ints{1, 0});
  CHECK(forward.list("end") == Ints{10, 7});
  CHECK(forward.list("stride") == Ints{4, 1});
  CHECK(forward.list("end_mask") == Ints{0, 0});
  CHECK(forward.type.shape == Shape{3, 7});

  const Node& backward = ops::slice_by_index(x, {8, 3}, {0, 4}, {-2, 1}, {}, {1, 0}).node();
  CHECK(backward.list("end") == Ints{0, 4});
  CHECK(backward.list("end_mask") == Ints{1, 0});
  CHECK(backward.type.shape == Shape{5, 1});
}

TEST_CASE("slices survive attributes that no file should contain") {
  Graph g;
  const Value x = input(g, {5});
  CHECK(ops::slice_by_index(x, {lowest}, {highest}).shape() == Shape{5});
  CHECK(ops::slice_by_index(x, {lowest}, {highest}, {highest}).shape() == Shape{1});
  CHECK(ops::slice_by_index(x, {highest}, {lowest}, {lowest}).node().list("begin") == Ints{4});
  CHECK_THROWS_WITH_AS(
      ops::slice_by_index(x, {highest}, {highest}),
      "slice_by_index: axis 0 of size 5 from 9223372036854775807 to 9223372036854775807 in steps of 1 is "
      "empty",
      Error);
  CHECK_THROWS_WITH_AS(ops::slice_by_index(x, {}, {}),
                       "slice_by_index: begin has 0 and end has 0 entries for a tensor of rank 1", Error);
}

TEST_CASE("other attributes out of all bounds are errors, not overflows") {
  Graph g;
  const Value x = input(g, {2, 3});
  const Value image = input(g, {1, 2, 3});
  const Value kernel = input(g, {2, 2, 1});
  const Shape deep{1, 1, 1, 1, 2};
  CHECK_THROWS_AS(ops::reshape(x, {highest, highest, 2}), Error);
  CHECK_THROWS_AS(ops::reshape(x, {-1, lowest}), Error);
  CHECK_THROWS_AS(ops::reshape(x, {1, 1, 1, 1, 1, 6}), Error);
  CHECK_THROWS_AS(ops::pad(x, {highest, highest}), Error);
  CHECK_THROWS_AS(ops::broadcast_to(x, {highest, 2, 3}), Error);
  CHECK_THROWS_AS(ops::transpose(x, {lowest, 0}), Error);
  CHECK_THROWS_AS(ops::conv(image, kernel, {}, {highest}), Error);
  CHECK_THROWS_AS(ops::conv(image, kernel, {}, {}, "custom", {highest, highest}), Error);
  CHECK_THROWS_AS(ops::conv(image, kernel, {}, {}, "valid", {}, {lowest}), Error);
  CHECK_THROWS_AS(ops::conv(image, kernel, {}, {}, "valid", {}, {}, lowest), Error);
  CHECK_THROWS_AS(ops::softmax(x, lowest), Error);
  CHECK_THROWS_AS(ops::reduce_sum(x, {highest}), Error);
  CHECK_THROWS_AS(ops::gather(input(g, deep), input(g, deep, DType::int32), 4, 0), Error);
  CHECK_THROWS_AS(ops::gather(x, input(g, {2}, DType::int32), 1, highest), Error);
}

TEST_CASE("conv resolves its padding") {
  Graph g;
  const Value x = input(g, {1, 2, 7});
  const Value even = input(g, {3, 2, 4});
  const Value one = input(g, {3, 2, 1});
  const Node& same = ops::conv(x, even, {}, {}, "same").node();
  CHECK(same.text("pad_type") == "custom");
  CHECK(same.list("pad") == Ints{1, 2});
  CHECK(same.type.shape == Shape{1, 3, 7});
  CHECK(ops::conv(x, even, {}, {}, "same_lower").node().list("pad") == Ints{2, 1});
  CHECK(ops::conv(x, one, {}, {}, "same").node().text("pad_type") == "valid");
  CHECK(ops::conv(x, one, {}, {2}, "custom", {0, 0}).node().text("pad_type") == "valid");
}

TEST_CASE("MIL rules ask for constants where MIL does") {
  Graph g;
  const Value x = input(g, {1, 2, 3});
  const Value w = g.weight("w", {DType::fp32, {2, 2, 2}});
  const auto in_mil = [&](Value y) { return y.node().op->in_mil(g, y.node()); };
  CHECK(in_mil(ops::conv(x, w, g.weight("b", {DType::fp32, {2}}), {}, "valid", {}, {2})));
  CHECK_FALSE(in_mil(ops::conv(x, w, input(g, {2}))));
  CHECK_FALSE(in_mil(ops::conv(x, input(g, {2, 2, 2}), {}, {}, "valid", {}, {2})));
  CHECK(in_mil(ops::layer_norm(x, {2}, g.weight("gamma", {DType::fp32, {3}}))));
  CHECK_FALSE(in_mil(ops::layer_norm(x, {2}, {}, g.weight("beta", {DType::fp32, {3}}))));
  CHECK(in_mil(ops::scaled_dot_product_attention(x, x, x)));
  CHECK(in_mil(ops::scaled_dot_product_attention(x, x, x, {}, {}, false, 1.0 / std::sqrt(3.0))));
  CHECK_FALSE(in_mil(ops::scaled_dot_product_attention(x, x, x, {}, {}, true)));
  CHECK_FALSE(in_mil(ops::rms_norm(x, {2})));
}

TEST_CASE("a position makes causal redundant") {
  Graph g;
  const Value x = input(g, {1, 2, 3});
  const Value position = input(g, {1}, DType::int32);
  CHECK_FALSE(ops::scaled_dot_product_attention(x, x, x, {}, position, true).node().flag("causal"));
}

TEST_CASE("split cuts an axis into slices") {
  Graph g;
  const Value x = input(g, {2, 6});
  const std::vector<Value> pieces = split(x, Ints{1, 3, 2}, -1);
  REQUIRE(pieces.size() == 3);
  CHECK(pieces[1].shape() == Shape{2, 3});
  g.output("y", pieces[1]);
  CHECK(elements(run_on_counting(g)) == Ints{1, 2, 3, 7, 8, 9});
  CHECK(split(x, 3, 1)[2].shape() == Shape{2, 2});
  CHECK(split(x, 1, 0)[0].id == x.id);
  CHECK_THROWS_WITH_AS(split(x, 4, 1), "split: axis 1 of size 6 does not divide into 4 equal pieces", Error);
  CHECK_THROWS_WITH_AS(split(x, Ints{1, 2}, 1), "split: the sizes leave 3 of axis 1, which has 6", Error);
  CHECK_THROWS_WITH_AS(split(x, Ints{1, 7}, 1), "split: a piece of size 7 where 5 of axis 1 are left", Error);
}

TEST_CASE("broadcast_to becomes a product with the smallest constant that does it") {
  Graph g;
  g.output("y", ops::broadcast_to(input(g, {3, 1}), {2, 3, 4}));
  const Graph simple = expand_composites(g, [](const Graph&, const Node&) { return true; });
  const Node& product = simple.node(simple.outputs()[0].node);
  REQUIRE(product.is("mul"));
  CHECK(simple.node(product.inputs[1]).type.shape == Shape{2, 1, 4});
  CHECK(run_on_counting(simple).identical(run_on_counting(g)));
}

TEST_CASE("a query that sees no key gets NaN, fused or not") {
  Graph g;
  const Value x = input(g, {1, 2, 3});
  const Value none = g.constant(Tensor(TensorType{DType::boolean, {2, 2}}));
  g.output("y", ops::scaled_dot_product_attention(x, x, x, none));
  const Graph simple = expand_composites(g, [](const Graph&, const Node&) { return true; });
  CHECK(std::isnan(run_on_counting(g).at(0)));
  CHECK(std::isnan(run_on_counting(simple).at(0)));
}

TEST_CASE("the expansion of cross_entropy answers NaN to a label that is no class") {
  Graph g;
  const Value labels = g.constant(Tensor::from_ints(std::vector<std::int32_t>{3}));
  g.output("y", ops::cross_entropy(input(g, {1, 3}), labels));
  const Graph simple = expand_composites(g, [](const Graph&, const Node&) { return true; });
  CHECK_THROWS_AS(run_on_counting(g), Error);
  CHECK(std::isnan(run_on_counting(simple).at(0)));
}

TEST_CASE("the gradient of a pointwise conv is a conv") {
  Graph g;
  const Value x = input(g, {1, 4, 1, 6});
  const Value w = g.weight("w", {DType::fp32, {5, 4, 1, 1}});
  const Value wrt[] = {x};
  const Value dx = gradient(g, ops::reduce_sum(ops::conv(x, w)), wrt)[0];
  CHECK(dx.node().is("conv"));
  CHECK(dx.shape() == x.shape());
}
