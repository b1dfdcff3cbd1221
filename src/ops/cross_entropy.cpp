// The loss of language models.
#include "ops/composite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>

namespace orion {
namespace {

using Values = std::vector<Value>;

// The type of the losses.
TensorType cross_entropy_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_dtype(graph, node, 1, DType::int32);
  const TensorType& logits = operand(graph, node, 0);
  if (logits.shape.rank() < 1) fail(node.op->name, ": logits are a scalar, an axis of classes is needed");
  const Shape rows(std::span(logits.shape.begin(), logits.shape.end() - 1));
  if (operand(graph, node, 1).shape != rows)
    fail(node.op->name, ": labels are ", operand(graph, node, 1).shape, ", logits ", logits.shape, " want ",
         rows);
  const std::int64_t ignored = node.integer("ignore_index");
  if (ignored != static_cast<std::int32_t>(ignored))
    fail(node.op->name, ": ignore_index ", ignored, " is not an int32, so no label can equal it");
  return {logits.dtype, rows};
}

// log(sum(exp(logits))) - logits[label]
double row_loss(const float* logits, std::int64_t classes, std::int64_t label) {
  const auto max = static_cast<double>(*std::max_element(logits, logits + classes));
  double sum = 0.0;
  for (std::int64_t v = 0; v < classes; ++v) sum += std::exp(static_cast<double>(logits[v]) - max);
  return std::log(sum) + max - static_cast<double>(logits[label]);
}

// Calls body(row, label) for every row, a negative label standing for a row that does not count.
template <class Body>
void for_each_label(const KernelCall& call, const Body& body) {
  const std::int64_t classes = call.in[0].shape.back();
  for (std::int64_t row = 0; row < call.in[1].shape.size(); ++row) {
    const std::int64_t label = call.in[1].as<std::int32_t>()[row];
    const bool ignored = label == call.node.integer("ignore_index");
    if (!ignored && (label < 0 || label >= classes))
      fail(call.node.op->name, ": label ", label, " (element ", row, " of labels) is none of the ", classes,
           " classes and not ignore_index ", call.node.integer("ignore_index"));
    body(row, ignored ? -1 : label);
  }
}

void cross_entropy_kernel(const KernelCall& call) {
  const std::int64_t classes = call.in[0].shape.back();
  for_each_label(call, [&](std::int64_t row, std::int64_t label) {
    const double loss = label < 0 ? 0.0 : row_loss(call.in[0].as<float>() + row * classes, classes, label);
    call.out.as<float>()[row] = static_cast<float>(loss);
  });
}

// A value of the rows' shape as a column beside the classes.
Value column(Value x) {
  Shape shape = x.shape();
  shape.append(1);
  return reshaped(x, shape);
}

// bool (rows..., V): whether the class is the label.
Value one_hot(Value logits, Value labels) {
  return ops::equal(column(labels), counting(logits.owner(), logits.shape().back()));
}

Value counts(const Node& node, Value labels) {
  const auto ignored = static_cast<double>(node.integer("ignore_index"));
  return ops::not_equal(labels, labels.owner().scalar(DType::int32, ignored));
}

Values cross_entropy_gradient(const GradientCall& c) {
  return {ops::cross_entropy_gradient(c.in[0], c.in[1], c.dy, c.node.integer("ignore_index")), {}};
}

TensorType cross_entropy_gradient_type(const Graph& graph, Node& node) {
  const TensorType losses = cross_entropy_type(graph, node);
  require_same_dtype(graph, node, 0, 2);
  if (operand(graph, node, 2).shape != losses.shape)
    fail("cross_entropy_gradient: dy is ", operand(graph, node, 2).shape, ", one number for each of the ",
         losses.shape, " rows is needed");
  return operand(graph, node, 0);
}

void cross_entropy_gradient_kernel(const KernelCall& call) {
  const std::int64_t classes = call.in[0].shape.back();
  for_each_label(call, [&](std::int64_t row, std::int64_t label) {
    const float* x = call.in[0].as<float>() + row * classes;
    float* dx = call.out.as<float>() + row * classes;
    const auto dy = static_cast<double>(call.in[2].as<float>()[row]);
    const double shift = static_cast<double>(x[std::max<std::int64_t>(label, 0)]) +
                         row_loss(x, classes, std::max<std::int64_t>(label, 0));  // log(sum(exp(x)))
    for (std::int64_t v = 0; v < classes; ++v) {
      const double target = v == label ? 1.0 : 0.0;
      dx[v] =
          label < 0 ? 0.0F : static_cast<float>((std::exp(static_cast<double>(x[v]) - shift) - target) * dy);
    }
  });
}

// (softmax(logits) - one_hot(labels)) dy
Value expand_cross_entropy_gradient(const ExpandCall& c) {
  const Value logits = c.in[0];
  const Value target = cast_like(one_hot(logits, c.in[1]), logits);
  const Value dlogits = ops::mul(ops::sub(ops::softmax(logits), target), column(c.in[2]));
  return ops::select(column(counts(c.node, c.in[1])), dlogits, scalar_like(dlogits, 0.0));
}

// The kernel refuses a label that is no class. Ops cannot, so here such a row divides 0 by 0: its loss is
// NaN rather than a wrong number.
Value expand_cross_entropy(const ExpandCall& c) {
  const Value logits = c.in[0];
  const Value below_max = ops::sub(logits, ops::reduce_max(logits, {-1}, true));
  const Value log_sum = ops::log(ops::reduce_sum(ops::exp(below_max), {-1}));
  const Value hot = one_hot(logits, c.in[1]);
  const Value at_label = ops::reduce_sum(ops::select(hot, below_max, scalar_like(logits, 0.0)), {-1});
  const Value labels_found = ops::reduce_sum(cast_like(hot, logits), {-1});
  const Value loss = ops::sub(log_sum, ops::real_div(at_label, labels_found));
  return ops::select(counts(c.node, c.in[1]), loss, scalar_like(loss, 0.0));
}

}  // namespace

OpDef cross_entropy_op() {
  return {.name = "cross_entropy",
          .doc =
              "log(sum(exp(logits))) - logits[label] for each row.\n\nlogits (..., V), labels int32 (...) -> "
              "(...). Rows whose label is ignore_index lose 0; any other label outside [0, V) is an error.",
          .args = {{"logits"}, {"labels"}},
          .attrs = {{"ignore_index", AttrKind::integer, std::int64_t{-100}}},
          .infer = cross_entropy_type,
          .kernel = cross_entropy_kernel,
          .gradient = cross_entropy_gradient,
          .expand = expand_cross_entropy,
          .in_mil = not_in_mil};
}

OpDef cross_entropy_gradient_op() {
  return {.name = "cross_entropy_gradient",
          .doc =
              "What comes back through cross_entropy: (softmax(logits) - one_hot(labels)) * dy for each row."
              "\n\nlogits (..., V), labels int32 (...), dy (...) -> (..., V). Rows whose label is "
              "ignore_index give zeros; any other label outside [0, V) is an error.",
          .args = {{"logits"}, {"labels"}, {"dy"}},
          .attrs = {{"ignore_index", AttrKind::integer, std::int64_t{-100}}},
          .infer = cross_entropy_gradient_type,
          .kernel = cross_entropy_gradient_kernel,
          .expand = expand_cross_entropy_gradient,
          .in_mil = not_in_mil};
}

}  // namespace orion
