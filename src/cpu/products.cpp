// Products with a matrix of weights, packed or given at run time: which there are, what they take in, and the
// steps they become.
#include "cpu/planner.h"

#include "orion/error.h"

#include <algorithm>

namespace orion::cpu {
namespace {

bool all_are(const std::vector<std::int64_t>& values, std::int64_t wanted) {
  return std::ranges::all_of(values, [=](std::int64_t v) { return v == wanted; });
}

bool is_packed_matmul(const Planner& p, const Node& node) {
  return node.is("matmul") && is_float(node.type.dtype) && !node.flag("transpose_x") &&
         !p.is_fixed(node.inputs[0]) && p.is_fixed(node.inputs[1]) && p.shape(node.inputs[1]).rank() == 2;
}

// Two matrices known only when the program runs. What has more axes and is not transposed is one matrix of
// more rows.
bool is_runtime_matmul(const Planner& p, const Node& node) {
  if (!node.is("matmul") || !is_float(node.type.dtype) || p.shape(node.inputs[1]).rank() != 2) return false;
  return !is_packed_matmul(p, node) && (p.shape(node.inputs[0]).rank() == 2 || !node.flag("transpose_x"));
}

// A convolution that only mixes channels: one tap, every position, one group.
bool is_pointwise_conv(const Planner& p, const Node& node) {
  if (!node.is("conv") || node.integer("groups") != 1 || p.is_fixed(node.inputs[0]) ||
      !p.is_fixed(node.inputs[1]))
    return false;
  const Shape& x = p.shape(node.inputs[0]);
  const Shape& w = p.shape(node.inputs[1]);
  const bool known_bias = node.inputs[2] == absent || p.is_fixed(node.inputs[2]);
  return w.size() == w[0] * w[1] && known_bias && all_are(node.list("strides"), 1) &&
         node.type.shape.size() / w[0] == x.size() / w[1];
}

std::optional<Activation> activation_of(const Node& node) {
  if (node.is("relu")) return Activation::relu;
  if (node.is("silu")) return Activation::silu;
  if (node.is("sigmoid")) return Activation::sigmoid;
  if (node.is("tanh")) return Activation::tanh;
  if (!node.is("gelu")) return std::nullopt;
  if (node.text("mode") == "EXACT") return Activation::gelu_erf;
  return node.text("mode") == "TANH_APPROXIMATION" ? Activation::gelu_tanh : Activation::gelu_sigmoid;
}

// The axis of a product's result that counts the weight's outputs.
int output_axis(const Node& node) {
  return node.is("conv") ? 1 : node.type.shape.rank() - 1;
}

// Whether `candidate`, broadcast against the product, varies along the output axis only.
bool is_bias(const Planner& p, const Node& node, NodeId candidate) {
  const Shape& shape = p.shape(candidate);
  const int from_back = node.type.shape.rank() - output_axis(node);
  const std::int64_t n = node.type.shape[output_axis(node)];
  return shape.size() == n && shape.rank() >= from_back && shape[shape.rank() - from_back] == n;
}

// Whether an activation or a factor can follow: not where the sum goes in parts.
bool has_whole_sums(const Planner& p, const Node& product) {
  return !is_runtime_matmul(p, product) ||
         p.shape(product.inputs[1]).size() / product.type.shape.back() <= most_gemm_inputs;
}

bool take_binary(const Planner& p, Product& product, const Node& node, NodeId other) {
  const bool started = product.activation != Activation::none || product.factor != absent;
  if (node.is("add") && !started && product.bias == absent && is_bias(p, p.node(product.node), other)) {
    product.bias = other;
    return true;
  }
  if (p.shape(other) != node.type.shape) return false;
  if (node.is("add")) product.residual = other;
  if (node.is("mul") && product.factor == absent && has_whole_sums(p, p.node(product.node)))
    product.factor = other;
  return product.residual == other || product.factor == other;
}

// Tries to take in `next`, the only reader of the product so far. The order is the epilogue's: bias,
// activation, factor, residual.
bool take(const Planner& p, Product& product, NodeId next) {
  const Node& node = p.node(next);
  if (node.type != p.node(product.node).type || p.is_fused(next) || product.residual != absent) return false;
  const auto activation = activation_of(node);
  if (activation && product.activation == Activation::none && product.factor == absent &&
      has_whole_sums(p, p.node(product.node))) {
    product.activation = *activation;
    return true;
  }
  if (!node.is("add") && !node.is("mul")) return false;
  const NodeId other = p.other_operand(next, product.last);
  return other != product.last && take_binary(p, product, node, other);
}

Product grown(Planner& p, NodeId id) {
  Product product{.node = id, .last = id};
  if (p.node(id).is("conv")) product.bias = p.node(id).inputs[2];
  for (NodeId next = p.only_user(id); next != absent && take(p, product, next); next = p.only_user(next)) {
    p.fuse(product.last, next);
    product.last = next;
  }
  p.fuse(product.last, product.last);
  return product;
}

struct EpilogueSlots {
  Slot bias = no_slot;
  Activation activation = Activation::none;
  Slot factor = no_slot;
  Slot residual = no_slot;

  Epilogue at(const Run& run) const {
    return {run.at<float>(bias), activation, run.at<float>(factor), run.at<float>(residual)};
  }
};

EpilogueSlots epilogue_of(Planner& p, const Product& product, std::vector<Slot>& reads) {
  const auto read = [&](NodeId id) {
    if (id == absent) return no_slot;
    reads.push_back(p.wide(id));
    return reads.back();
  };
  return {read(product.bias), product.activation, read(product.factor), read(product.residual)};
}

// Everything of the call but its addresses. A matmul is one call on (M, K); a convolution is one per
// image, its positions being the rows: x (C, S) read column by column.
LinearCall shape_of_call(Planner& p, const Node& node) {
  LinearCall call;
  if (node.is("matmul")) {
    call.w = p.panels(node.inputs[1], node.flag("transpose_y") ? Form::panels_nk : Form::panels_kn);
    call.m = node.type.shape.size() / call.w.n;
    call.x_row = call.w.k;
    call.y_row = call.w.n;
    return call;
  }
  call.w = p.panels(node.inputs[1], Form::panels_nk);
  call.m = node.type.shape.size() / node.type.shape[0] / call.w.n;
  call.x_row = call.y_row = 1;
  call.x_col = call.y_col = call.m;
  return call;
}

std::string label_of(const Planner& p, const Product& product, MatrixFormat format) {
  const Node& node = p.node(product.node);
  return str(node.op->name, ' ', p.node(product.last).name, product.bias != absent ? " +bias" : "",
             product.activation != Activation::none ? " +activation" : "",
             product.factor != absent ? " +factor" : "", product.residual != absent ? " +residual" : "",
             format == MatrixFormat::exact ? "" : " in ",
             format == MatrixFormat::exact ? "" : matrix_format_name(format));
}

}  // namespace

std::vector<Product> find_products(Planner& planner) {
  std::vector<Product> products;
  for (NodeId id = 0; id < planner.graph().size(); ++id) {
    const Node& node = planner.node(id);
    if (is_packed_matmul(planner, node) || is_pointwise_conv(planner, node))
      shape_of_call(planner, node);  // packs the weight now, so that a gather from it finds the panels
    else if (!is_runtime_matmul(planner, node))
      continue;
    products.push_back(grown(planner, id));
  }
  return products;
}

namespace {

GemmCall shape_of_gemm(const Planner& p, const Node& node) {
  const bool tx = node.flag("transpose_x"), ty = node.flag("transpose_y");
  const Shape& b = p.shape(node.inputs[1]);
  const std::int64_t n = node.type.shape.back(), k = b.size() / n, m = node.type.shape.size() / n;
  return {.m = m,
          .n = n,
          .k = k,
          .a_row = tx ? 1 : k,
          .a_col = tx ? m : 1,
          .b_row = ty ? 1 : n,
          .b_col = ty ? k : 1,
          .c_row = n};
}

// Where the product goes: over the state that it is added to, or to a place of its own.
Located place_of(Planner& p, const Product& product) {
  if (product.residual != absent) return {p.result_over(product.last, product.residual)};
  return p.result_or_rounded(product.last, has_whole_sums(p, p.node(product.node)));
}

// The left operand: floats, or bfloat16.
Located left_of(Planner& p, NodeId id) {
  const Located where = p.stored(id);
  return where.rounded ? where : Located{p.wide(id)};
}

void lower_runtime(Planner& planner, const Product& product) {
  const Node& node = planner.node(product.node);
  GemmCall call = shape_of_gemm(planner, node);
  call.bf16 = planner.format() == MatrixFormat::bf16;
  const Located a = left_of(planner, node.inputs[0]);
  const Slot b = planner.wide(node.inputs[1]);
  std::vector<Slot> reads = {a.slot, b};
  const EpilogueSlots epilogue = epilogue_of(planner, product, reads);
  call.epilogue.activation = product.activation;
  const Located c = place_of(planner, product);
  const MatrixFormat format = call.bf16 ? MatrixFormat::bf16 : MatrixFormat::exact;
  planner.add_step({.label = label_of(planner, product, format),
                    .reads = std::move(reads),
                    .writes = c.slot,
                    .run =
                        [=](const Run& run) {
                          GemmCall now = call;
                          now.a = a.floats_at(run);
                          now.a_rounded = a.rounded_at(run);
                          now.b = run.at<float>(b);
                          now.c = c.floats_at(run);
                          now.rounded = c.rounded_at(run);
                          now.epilogue = epilogue.at(run);
                          gemm(run.pool, now, run.scratch);
                        },
                    .scratch = gemm_scratch(call, shared_pool().size())});
}

}  // namespace

bool reads_rounded(Planner& planner, const Node& node, NodeId operand) {
  const bool packed = is_packed_matmul(planner, node);
  if (!packed && !is_runtime_matmul(planner, node)) return false;
  if (node.inputs[0] != operand || node.inputs[1] == operand || node.flag("transpose_x")) return false;
  const std::int64_t k = planner.shape(operand).back();
  if (k % 2 != 0) return false;
  return packed ? rounds_to_bfloat(shape_of_call(planner, node))
                : k <= most_gemm_inputs && planner.format() == MatrixFormat::bf16;
}

void lower_product(Planner& planner, const Product& product) {
  const Node& node = planner.node(product.node);
  if (is_runtime_matmul(planner, node)) return lower_runtime(planner, product);
  const LinearCall call = shape_of_call(planner, node);
  const std::int64_t images = node.is("conv") ? node.type.shape[0] : 1;
  const Located x = left_of(planner, node.inputs[0]);
  std::vector<Slot> reads = {x.slot};
  const EpilogueSlots epilogue = epilogue_of(planner, product, reads);
  const Located y = planner.result_or_rounded(product.last, call.m > few_rows && call.y_col == 1);
  planner.add_step({.label = label_of(planner, product, call.w.format),
                    .reads = std::move(reads),
                    .writes = y.slot,
                    .run =
                        [=](const Run& run) {
                          LinearCall now = call;
                          now.x = x.floats_at(run);
                          now.x_rounded = x.rounded_at(run);
                          now.y = y.floats_at(run);
                          now.rounded = y.rounded_at(run);
                          now.epilogue = epilogue.at(run);
                          linear(run.pool, now, run.scratch);
                          const std::int64_t step = call.m * call.w.n;
                          for (std::int64_t i = 1; i < images; ++i) {
                            now.x += call.m * call.w.k;
                            now.y += step;
                            if (now.epilogue.factor != nullptr) now.epilogue.factor += step;
                            if (now.epilogue.residual != nullptr) now.epilogue.residual += step;
                            linear(run.pool, now, run.scratch);
                          }
                        },
                    .scratch = linear_scratch(call, shared_pool().size())});
}

}  // namespace orion::cpu
