// Which kernel each op becomes. Ops that are not listed run by the op table's own kernel.
#include "cpu/lower.h"

#include "cpu/permute.h"
#include "orion/error.h"

#include <algorithm>
#include <numeric>

namespace orion::cpu {

std::string label(const Node& node) {
  return str(node.op->name, ' ', node.name);
}

void lower_reference(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  std::vector<Slot> in;
  std::vector<View> views;
  for (const NodeId input : node.inputs) {
    in.push_back(input == absent ? no_slot : p.wide(input));
    views.push_back(input == absent ? View{}
                                    : View{nullptr, memory_dtype(p.node(input).type.dtype), p.shape(input)});
  }
  const Slot to = p.result(id);
  std::vector<Slot> reads = in;
  std::erase(reads, no_slot);
  p.add_step({.label = label(node) + " (reference)",
              .reads = std::move(reads),
              .writes = to,
              .run = [&node, in, views, to](const Run& run) mutable {
                for (std::size_t i = 0; i < in.size(); ++i) views[i].data = run.at<void>(in[i]);
                node.op->kernel(
                    {node, views, {run.at<void>(to), memory_dtype(node.type.dtype), node.type.shape}});
              }});
}

bool last_axis_only(const Node& node, const Shape& shape) {
  const std::vector<std::int64_t>& axes = node.list("axes");
  return axes.size() == 1 && axes[0] == shape.rank() - 1;
}

std::int64_t leading(const Shape& shape) {
  return shape.size() / shape.back();
}

void count_from_front(std::span<const std::int32_t> ids, std::int64_t n, std::int32_t* to) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    to[i] = ids[i] < 0 ? ids[i] + static_cast<std::int32_t>(n) : ids[i];
}

namespace {

// -- rows -----------------------------------------------------------------------------------------

void lower_rows(Planner& p, NodeId id, void (*kernel)(ThreadPool&, const RowsCall&), NodeId gamma,
                NodeId beta, float epsilon) {
  const Node& node = p.node(id);
  const RowsCall call{.rows = leading(node.type.shape), .cols = node.type.shape.back(), .epsilon = epsilon};
  const Slot x = p.wide(node.inputs[0]);
  const Slot g = gamma == absent ? no_slot : p.wide(gamma);
  const Slot b = beta == absent ? no_slot : p.wide(beta);
  std::vector<Slot> reads = {x, g, b};
  std::erase(reads, no_slot);
  const Located y = p.result_or_rounded(id, kernel != softmax);
  p.add_step({.label = label(node),
              .reads = std::move(reads),
              .writes = y.slot,
              .run =
                  [=](const Run& run) {
                    RowsCall now = call;
                    now.x = run.at<float>(x);
                    now.y = y.floats_at(run);
                    now.rounded = y.rounded_at(run);
                    now.gamma = run.at<float>(g);
                    now.beta = run.at<float>(b);
                    kernel(run.pool, now);
                  },
              .in_place = true});
}

void lower_layer_norm(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (!last_axis_only(node, node.type.shape)) return lower_reference(p, id);
  lower_rows(p, id, layer_norm, node.inputs[1], node.inputs[2], static_cast<float>(node.number("epsilon")));
}

void lower_rms_norm(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (!last_axis_only(node, node.type.shape)) return lower_reference(p, id);
  lower_rows(p, id, rms_norm, node.inputs[1], absent, static_cast<float>(node.number("epsilon")));
}

void lower_softmax(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (node.integer("axis") != node.type.shape.rank() - 1) return lower_reference(p, id);
  lower_rows(p, id, softmax, absent, absent, 0.0F);
}

// -- moving data ----------------------------------------------------------------------------------

// Rows of a table. A fixed one that is also a product's weight (a tied embedding) is read from that
// product's panels, so that it is held once.
void lower_gather(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const NodeId x = node.inputs[0];
  const bool plain_rows =
      p.shape(x).rank() == 2 && node.integer("axis") == 0 && node.integer("batch_dims") == 0;
  if (!plain_rows || !is_float(node.type.dtype)) return lower_reference(p, id);
  const std::int64_t n = p.shape(x)[0], k = p.shape(x)[1];
  const auto count = static_cast<std::size_t>(p.shape(node.inputs[1]).size());
  const bool packed = p.is_fixed(x) && p.has_panels(x, Form::panels_nk);
  const Panels panels = packed ? p.panels(x, Form::panels_nk) : Panels{};
  const Located rows = packed ? Located{} : p.is_fixed(x) ? p.natural(x) : p.stored(x);
  const Slot indices = p.wide(node.inputs[1]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node) + (packed ? " from panels" : ""),
              .reads = packed ? std::vector<Slot>{indices} : std::vector<Slot>{indices, rows.slot},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    auto* ids = reinterpret_cast<std::int32_t*>(run.scratch.data());
                    count_from_front({run.at<std::int32_t>(indices), count}, n, ids);
                    if (packed)
                      gather_rows(run.pool, panels, {ids, count}, run.at<float>(y));
                    else
                      gather_rows(run.pool, {run.at<void>(rows.slot), rows.dtype, k, 1}, n, k, {ids, count},
                                  run.at<float>(y));
                  },
              .scratch = count * sizeof(std::int32_t)});
}

void lower_transpose(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const std::size_t size = dtype_size(memory_dtype(node.type.dtype));
  if (size != sizeof(float)) return lower_reference(p, id);
  const Permutation permutation = make_permutation(p.shape(node.inputs[0]), node.list("perm"));
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node), .reads = {x}, .writes = y, .run = [=](const Run& run) {
                permute(run.pool, permutation, run.at<float>(x), run.at<float>(y));
              }});
}

// -- products of two run-time values ---------------------------------------------------------------

void lower_matmul(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const Shape& a = p.shape(node.inputs[0]);
  const Shape& b = p.shape(node.inputs[1]);
  if (!is_float(node.type.dtype) || a.rank() < 2 || b.rank() < 2) return lower_reference(p, id);
  const bool tx = node.flag("transpose_x");
  const bool ty = node.flag("transpose_y");
  const Shape& c = node.type.shape;
  const std::int64_t m = c[c.rank() - 2], n = c.back(), k = a[a.rank() - (tx ? 2 : 1)];
  const GemmCall call{.m = m,
                      .n = n,
                      .k = k,
                      .a_row = tx ? 1 : k,
                      .a_col = tx ? m : 1,
                      .b_row = ty ? 1 : n,
                      .b_col = ty ? k : 1,
                      .c_row = n};
  const std::vector<std::int64_t> a_offsets = batch_offsets(a, c);
  const std::vector<std::int64_t> b_offsets = batch_offsets(b, c);
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.wide(node.inputs[1]);
  const Slot z = p.result(id);
  std::vector<GemmCall> calls(a_offsets.size(), call);
  p.add_step({.label = label(node),
              .reads = {x, y},
              .writes = z,
              .run =
                  [=](const Run& run) mutable {
                    for (std::size_t i = 0; i < calls.size(); ++i) {
                      calls[i].a = run.at<float>(x) + a_offsets[i];
                      calls[i].b = run.at<float>(y) + b_offsets[i];
                      calls[i].c = run.at<float>(z) + static_cast<std::int64_t>(i) * m * n;
                    }
                    gemm(run.pool, calls, run.scratch);
                  },
              .scratch = gemm_scratch(call, shared_pool().size())});
}

struct Lowering {
  std::string_view op;
  void (*lower)(Planner&, NodeId);
};

constexpr Lowering lowerings[] = {
    {"relu", lower_unary},
    {"silu", lower_unary},
    {"gelu", lower_unary},
    {"sigmoid", lower_unary},
    {"tanh", lower_unary},
    {"exp", lower_unary},
    {"log", lower_unary},
    {"sqrt", lower_unary},
    {"rsqrt", lower_unary},
    {"erf", lower_unary},
    {"neg", lower_unary},
    {"abs", lower_unary},
    {"square", lower_unary},
    {"clip", lower_unary},
    {"add", lower_binary},
    {"sub", lower_binary},
    {"mul", lower_binary},
    {"real_div", lower_binary},
    {"pow", lower_binary},
    {"maximum", lower_binary},
    {"minimum", lower_binary},
    {"silu_gradient", lower_binary},
    {"gelu_gradient", lower_binary},
    {"select", lower_select},
    {"cast", lower_cast},
    {"reduce_sum", lower_sum},
    {"reduce_mean", lower_sum},
    {"reduce_max", lower_sum},
    {"slice_by_index", lower_slice},
    {"concat", lower_concat},
    {"pad", lower_pad},
    {"softmax", lower_softmax},
    {"softmax_gradient", lower_softmax_gradient},
    {"layer_norm_gradient", lower_norm_gradient},
    {"rms_norm_gradient", lower_norm_gradient},
    {"cross_entropy", lower_cross_entropy},
    {"cross_entropy_gradient", lower_cross_entropy},
    {"layer_norm", lower_layer_norm},
    {"rms_norm", lower_rms_norm},
    {"scaled_dot_product_attention", lower_attention},
    {"scaled_dot_product_attention_gradient", lower_attention_gradient},
    {"cache_update", lower_cache_update},
    {"rope", lower_rope},
    {"gather", lower_gather},
    {"scatter", lower_scatter},
    {"transpose", lower_transpose},
    {"matmul", lower_matmul},
};

}  // namespace

void lower(Planner& planner, NodeId id) {
  const auto found = std::ranges::find(lowerings, planner.node(id).op->name, &Lowering::op);
  (found == std::end(lowerings) ? lower_reference : found->lower)(planner, id);
}

}  // namespace orion::cpu
