// What mostly training runs: gradients over rows, the loss, sums over axes, rows added to a table.
#include "cpu/lower.h"

#include "orion/error.h"

#include <algorithm>

namespace orion::cpu {
namespace {

struct RowsGradient {
  void (*kernel)(ThreadPool&, const RowsGradientCall&);
  NodeId gamma = absent;
  NodeId residual = absent;
  float epsilon = 0.0F;
};

// The value of `last` is computed, which is the gradient `id` or its sum with the residual.
void lower_rows_gradient(Planner& p, NodeId id, NodeId last, const RowsGradient& gradient) {
  const Node& node = p.node(id);
  const RowsGradientCall call{
      .rows = leading(node.type.shape), .cols = node.type.shape.back(), .epsilon = gradient.epsilon};
  const auto wide = [&](NodeId operand) { return operand == absent ? no_slot : p.wide(operand); };
  const Slot x = p.wide(node.inputs[0]), dy = p.wide(node.inputs[1]);
  const Slot g = wide(gradient.gamma), residual = wide(gradient.residual);
  std::vector<Slot> reads = {dy, x, g, residual};
  std::erase(reads, no_slot);
  const Slot dx = p.result(last);
  p.add_step({.label = label(node) + (residual == no_slot ? "" : " +residual"),
              .reads = std::move(reads),
              .writes = dx,
              .run =
                  [=, kernel = gradient.kernel](const Run& run) {
                    RowsGradientCall now = call;
                    now.x = run.at<float>(x);
                    now.dy = run.at<float>(dy);
                    now.dx = run.at<float>(dx);
                    now.gamma = run.at<float>(g);
                    now.residual = run.at<float>(residual);
                    kernel(run.pool, now);
                  },
              .in_place = true});
}

// The sum that a gradient is part of, if it can be computed with it: what else it adds is there already.
NodeId sum_after(const Planner& p, NodeId id) {
  const NodeId next = p.only_user(id);
  if (next == absent || !p.node(next).is("add") || p.is_fused(next) || p.node(next).type != p.node(id).type)
    return absent;
  const NodeId other = p.other_operand(next, id);
  const bool is_there = other != id && p.shape(other) == p.shape(id) && p.emitted_with(other) < id;
  return is_there && p.state_of(next) == absent ? next : absent;
}

// The axes of a sum or maximum as one axis of (outer, size, inner), if they are neighbours.
std::optional<SumCall> sum_call(const Node& node, const Shape& x) {
  const std::vector<std::int64_t>& axes = node.list("axes");
  if (axes.empty() || axes.back() - axes.front() + 1 != std::ssize(axes)) return std::nullopt;
  SumCall call{.outer = 1, .size = 1, .inner = 1};
  for (int axis = 0; axis < x.rank(); ++axis)
    (axis < axes.front() ? call.outer : axis > axes.back() ? call.inner : call.size) *= x[axis];
  if (node.is("reduce_mean")) call.factor = 1.0F / static_cast<float>(call.size);
  return call;
}

}  // namespace

void lower_norm_gradient(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (!last_axis_only(node, node.type.shape)) return lower_reference(p, id);
  RowsGradient gradient{.kernel = node.is("layer_norm_gradient") ? layer_norm_gradient : rms_norm_gradient,
                        .gamma = node.inputs[2],
                        .epsilon = static_cast<float>(node.number("epsilon"))};
  const NodeId sum = sum_after(p, id);
  if (sum == absent) return lower_rows_gradient(p, id, id, gradient);
  gradient.residual = p.other_operand(sum, id);
  p.fuse(sum, id);
  lower_rows_gradient(p, id, sum, gradient);
}

void lower_softmax_gradient(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (node.integer("axis") != node.type.shape.rank() - 1) return lower_reference(p, id);
  lower_rows_gradient(p, id, id, {.kernel = softmax_gradient});
}

void lower_cross_entropy(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const Shape& logits = p.shape(node.inputs[0]);
  const bool back = node.inputs.size() == 3;
  const CrossEntropyCall call{
      .rows = leading(logits), .cols = logits.back(), .ignored = node.integer("ignore_index")};
  const Slot x = p.wide(node.inputs[0]), labels = p.wide(node.inputs[1]);
  const Slot dy = back ? p.wide(node.inputs[2]) : no_slot;
  std::vector<Slot> reads = {x, labels, dy};
  std::erase(reads, no_slot);
  const Slot y = p.result(id);
  p.add_step({.label = label(node),
              .reads = std::move(reads),
              .writes = y,
              .run =
                  [=](const Run& run) {
                    CrossEntropyCall now = call;
                    now.logits = run.at<float>(x);
                    now.labels = run.at<std::int32_t>(labels);
                    now.dy = run.at<float>(dy);
                    now.y = run.at<float>(y);
                    cross_entropy(run.pool, now);
                  },
              .in_place = back});
}

void lower_sum(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const auto call = sum_call(node, p.shape(node.inputs[0]));
  if (!is_float(node.type.dtype) || !call) return lower_reference(p, id);
  const auto kernel = node.is("reduce_max") ? largest : sum;
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node), .reads = {x}, .writes = y, .run = [=, parts = *call](const Run& run) {
                SumCall now = parts;
                now.x = run.at<float>(x);
                now.y = run.at<float>(y);
                kernel(run.pool, now);
              }});
}

// Rows added to a table: over it, where it is a state.
void lower_scatter(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const Shape& table = node.type.shape;
  const bool plain_rows = is_float(node.type.dtype) && node.text("mode") == "add" && table.rank() == 2 &&
                          node.integer("axis") == 0;
  if (!plain_rows) return lower_reference(p, id);
  const auto count = static_cast<std::size_t>(p.shape(node.inputs[1]).size());
  const std::int64_t n = table[0], k = table[1];
  const Slot before = p.wide(node.inputs[0]), indices = p.wide(node.inputs[1]);
  const Slot rows = p.wide(node.inputs[2]);
  const Slot y = p.result_over(id, node.inputs[0]);
  p.add_step({.label = label(node),
              .reads = {before, indices, rows},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    auto* ids = reinterpret_cast<std::int32_t*>(run.scratch.data());
                    count_from_front({run.at<std::int32_t>(indices), count}, n, ids);
                    if (y != before) std::copy_n(run.at<float>(before), n * k, run.at<float>(y));
                    scatter_add_rows(run.pool, run.at<float>(rows), {ids, count}, run.at<float>(y), n, k);
                  },
              .scratch = count * sizeof(std::int32_t)});
}

}  // namespace orion::cpu
