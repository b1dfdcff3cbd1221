// Graphs: building, checking, rewriting, differentiating.
#include "ir/rewrite.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <doctest/doctest.h>

using namespace orion;

namespace {

const TensorType fp32_2x3{DType::fp32, {2, 3}};

}  // namespace

TEST_CASE("a graph prints as one line per node") {
  Graph g("f");
  const Value x = g.input("x", fp32_2x3);
  const Value w = g.weight("model.w", {DType::fp32, {4, 3}});
  g.output("y", ops::relu(ops::matmul(x, w, false, true)));
  CHECK(to_text(g) ==
        "graph f\n"
        "  %0 x: fp32 (2, 3) = input()\n"
        "  %1 model.w: fp32 (4, 3) = weight()\n"
        "  %2 matmul: fp32 (2, 4) = matmul(x=%0, y=%1, transpose_y=true)\n"
        "  %3 relu: fp32 (2, 4) = relu(x=%2)\n"
        "  -> y = %3\n");
  CHECK_NOTHROW(verify(g));
}

TEST_CASE("mistakes are named when a node is built") {
  Graph g;
  const Value x = g.input("x", fp32_2x3);
  const Value n = g.input("n", {DType::int32, {2, 3}});
  Graph other;
  const Value foreign = other.input("x", fp32_2x3);
  CHECK_THROWS_WITH_AS(ops::add(x, n), "add: x is fp32 but y is int32; cast one of them", Error);
  CHECK_THROWS_WITH_AS(ops::add(x, foreign), "add: an operand belongs to another graph", Error);
  CHECK_THROWS_WITH_AS(ops::matmul(x, x), "matmul: inner sizes 3 and 2 differ", Error);
  CHECK_THROWS_WITH_AS(ops::softmax(x, 2), "softmax: axis 2 is not an axis of a tensor of rank 2", Error);
  CHECK_THROWS_WITH_AS(g.add("sofmax", {x}), "unknown op 'sofmax' (nearest: softmax)", Error);
  CHECK_THROWS_WITH_AS(g.add("cast", {x}), "cast: attribute dtype is missing", Error);
  CHECK_THROWS_WITH_AS(g.add("relu", {x}, {{"slope", 1.0}}), "relu: no attribute 'slope'", Error);
  CHECK_THROWS_AS(g.input("1x", fp32_2x3), Error);
  CHECK_THROWS_AS(g.input("x", fp32_2x3), Error);
  CHECK_THROWS_AS(g.weight("a\"b", fp32_2x3), Error);
  CHECK_THROWS_WITH_AS(ops::relu(Value{}), "an operand is missing", Error);
}

TEST_CASE("names stay unique without the caller's help") {
  Graph g;
  const Value x = g.input("relu_0", fp32_2x3);
  const Value a = ops::relu(x);
  const Value b = ops::relu(a);
  const Value c = ops::relu(b);
  CHECK(a.node().name == "relu");
  CHECK(b.node().name == "relu_1");
  CHECK(c.node().name == "relu_2");
}

TEST_CASE("outputs are names of their own") {
  Graph g;
  const Value x = g.input("x", fp32_2x3);
  g.output("y", x);
  CHECK_THROWS_WITH_AS(g.output("y", x), "output 'y' is given twice", Error);
  CHECK_NOTHROW(g.output("x", ops::relu(x)));  // the input's new state
  Graph h;
  const Value z = h.input("z", fp32_2x3);
  CHECK_THROWS_AS(h.output("z", ops::reduce_sum(z)), Error);
}

TEST_CASE("a rewrite drops what no output needs and keeps the interface") {
  Graph g("f");
  const Value x = g.input("x", fp32_2x3);
  g.input("unused", fp32_2x3);
  g.weight("dead", fp32_2x3);
  ops::exp(x);
  g.output("y", ops::relu(x));
  const Graph live = rewrite(g, [](const RewriteCall&) { return Value{}; });
  CHECK(to_text(live) ==
        "graph f\n"
        "  %0 x: fp32 (2, 3) = input()\n"
        "  %1 unused: fp32 (2, 3) = input()\n"
        "  %2 relu: fp32 (2, 3) = relu(x=%0)\n"
        "  -> y = %2\n");
}

TEST_CASE("a rewrite that changes a type is a bug, and says so") {
  Graph g;
  const Value x = g.input("x", fp32_2x3);
  g.output("y", ops::relu(x));
  const auto wrong = [](const RewriteCall& call) {
    return call.node.is("relu") ? ops::reduce_sum(call.in[0]) : Value{};
  };
  CHECK_THROWS_WITH_AS(rewrite(g, wrong), "pass: relu (relu) was fp32 (2, 3), its replacement is fp32 ()",
                       Error);
}

TEST_CASE("the gradient of sum(x * x) is 2 x") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {3}});
  const Value unrelated = g.input("z", {DType::fp32, {2}});
  const Value loss = ops::reduce_sum(ops::mul(x, x));
  const Value wrt[] = {x, unrelated};
  const std::vector<Value> dx = gradient(g, loss, wrt);
  g.output("dx", dx[0]);
  g.output("dz", dx[1]);
  Tensor values(x.type());
  for (int i = 0; i < 3; ++i) values.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(i + 1);
  const TensorMap out = evaluate(g, {{"x", values}, {"z", Tensor(unrelated.type())}});
  CHECK(out.at("dx").at(2) == 6.0);
  CHECK(out.at("dz").at(1) == 0.0);
  CHECK_THROWS_WITH_AS(gradient(g, x, wrt), "gradient: the loss is fp32 (3,), a float scalar is needed",
                       Error);
}
