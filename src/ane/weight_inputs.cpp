#include "ane/weight_inputs.h"

#include "ir/rewrite.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>

namespace orion::ane {
namespace {

bool is_matrix(const Shape& shape) {
  return shape.rank() == 4 && shape[2] == 1 && shape[3] == 1;
}

Value input_for(const RewriteCall& call, std::map<std::string, std::string>& names) {
  std::string name;
  do name = str("weight_", names.size());
  while (call.from.find(name));
  names[name] = call.node.name;
  const Shape& shape = call.node.type.shape;
  if (!is_matrix(shape)) return call.graph.input(name, call.node.type);
  const Value matrix = call.graph.input(name, {call.node.type.dtype, {shape[0], shape[1]}});
  return ops::reshape(matrix, {shape.begin(), shape.end()});
}

bool all_ones(const std::vector<std::int64_t>& values) {
  return std::ranges::all_of(values, [](std::int64_t v) { return v == 1; });
}

// A convolution that mixes channels only, by a matrix that is an input.
bool is_product(const RewriteCall& call) {
  if (!call.node.is("conv") || !is_matrix(call.in[1].shape()) || !call.in[1].node().is("reshape"))
    return false;
  const Shape& x = call.in[0].shape();
  const bool keeps_places = call.node.type.shape.size() / call.node.type.shape[1] == x.size() / x[1];
  return call.node.integer("groups") == 1 && all_ones(call.node.list("strides")) && keeps_places;
}

// y (N, O, ...) = W (O, I) x (N, I, ...)
Value product(const RewriteCall& call) {
  const Value matrix{&call.graph, call.in[1].node().inputs[0]};
  const Shape& x = call.in[0].shape();
  const Shape& y = call.node.type.shape;
  const Value rows = ops::reshape(call.in[0], {x[0], x[1], x.size() / x[0] / x[1]});
  const Value mixed = ops::reshape(ops::matmul(matrix, rows), {y.begin(), y.end()});
  if (!call.in[2]) return mixed;
  std::vector<std::int64_t> bias(static_cast<std::size_t>(y.rank()), 1);
  bias[1] = y[1];
  return ops::add(mixed, ops::reshape(call.in[2], bias));
}

}  // namespace

Graph weights_as_inputs(const Graph& graph, std::map<std::string, std::string>& names) {
  return rewrite(graph, [&](const RewriteCall& call) -> Value {
    if (call.node.is("weight")) return input_for(call, names);
    return is_product(call) ? product(call) : Value{};
  });
}

}  // namespace orion::ane
