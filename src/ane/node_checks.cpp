// Limits that one node can cross.
#include "ane/checks.h"
#include "orion/op.h"

#include <algorithm>

namespace orion::ane {
namespace {

template <const char* Name>
bool is(const GraphFacts&, const Node& node) {
  return node.is(Name);
}

constexpr char concat[] = "concat";
constexpr char gelu[] = "gelu";
constexpr char rsqrt[] = "rsqrt";
constexpr char reduce_mean[] = "reduce_mean";
constexpr char pow[] = "pow";
constexpr char sqrt[] = "sqrt";
constexpr char identity[] = "identity";

// Operands in the order of the op table: conv x, weight, bias; attention query, key, value, attn_mask.
constexpr std::size_t conv_weight = 1;
constexpr std::size_t conv_bias = 2;
constexpr std::size_t attention_mask = 3;

bool has_operand(const Node& node, std::size_t index) {
  return index < node.inputs.size() && node.inputs[index] != absent;
}

bool has_mask(const GraphFacts&, const Node& node) {
  return node.is("scaled_dot_product_attention") && has_operand(node, attention_mask);
}

bool has_bias(const GraphFacts&, const Node& node) {
  return node.is("conv") && has_operand(node, conv_bias);
}

constexpr std::int64_t rejected_channels = 32'000;

bool has_32k_input_channels(const GraphFacts& facts, const Node& node) {
  return node.is("conv") && facts.operand(node, 0).type.shape[1] >= rejected_channels;
}

bool has_32k_channels(const GraphFacts& facts, const Node& node) {
  return has_32k_input_channels(facts, node) || (node.is("conv") && node.type.shape[1] >= rejected_channels);
}

bool has_constant_operand(const GraphFacts& facts, const Node& node) {
  return node.is("matmul") && (facts.is_constant(node, 0) || facts.is_constant(node, 1));
}

bool has_one_constant_operand(const GraphFacts& facts, const Node& node) {
  return node.is("matmul") && facts.is_constant(node, 0) != facts.is_constant(node, 1);
}

bool transposes_y(const GraphFacts& facts, const Node& node) {
  return node.is("matmul") && node.flag("transpose_y") && !has_constant_operand(facts, node);
}

bool has_runtime_weight(const GraphFacts& facts, const Node& node) {
  return node.is("conv") && !facts.is_constant(node, conv_weight);
}

std::int64_t softmax_size(const Node& node) {
  return node.type.shape[static_cast<int>(node.integer("axis"))];
}

bool softmax_beside_power_of_two(const GraphFacts&, const Node& node) {
  return node.is("softmax") && (softmax_size(node) & (softmax_size(node) - 1)) != 0;
}

bool softmax_is_long(const GraphFacts&, const Node& node) {
  constexpr std::int64_t longest_seen_right = 2048;
  return node.is("softmax") && softmax_size(node) > longest_seen_right;
}

bool moves_data(const GraphFacts& facts, const Node& node) {
  constexpr std::string_view movers[] = {"reduce_sum", "reduce_mean",    "reduce_max", "reshape", "transpose",
                                         "concat",     "slice_by_index", "pad",        "gather"};
  return std::ranges::find(movers, node.op->name) != std::end(movers) && !facts.is_constant(node, 0);
}

bool broadcasts_batch(const GraphFacts& facts, const Node& node) {
  if (!node.is("mul")) return false;
  const Shape& x = facts.operand(node, 0).type.shape;
  const Shape& y = facts.operand(node, 1).type.shape;
  return x.rank() == 4 && y.rank() == 4 && x[0] != y[0];
}

bool longer_than(const Shape& shape, std::int64_t size) {
  return std::any_of(shape.begin(), shape.end(), [=](std::int64_t n) { return n > size; });
}

bool is_flat(const GraphFacts&, const Node& node) {
  constexpr std::int64_t longest_that_returns = 16'384;
  return node.op->elementwise && longer_than(node.type.shape, longest_that_returns);
}

bool has_long_axis(const GraphFacts& facts, const Node& node) {
  return longer_than(node.type.shape, facts.profile.largest_axis);
}

bool is_zero(const Node& node) {
  if (!node.is("const")) return false;
  for (std::int64_t i = 0; i < node.type.shape.size(); ++i)
    if (node.value.at(i) != 0) return false;
  return true;
}

bool multiplies_by_zero(const GraphFacts& facts, const Node& node) {
  if (!node.is("mul")) return false;
  const Node& x = facts.operand(node, 0);
  const Node& y = facts.operand(node, 1);
  return (x.op->name.starts_with("reduce_") && is_zero(y)) ||
         (y.op->name.starts_with("reduce_") && is_zero(x));
}

bool has_wide_kernel(const GraphFacts& facts, const Node& node) {
  constexpr std::int64_t widest = 15;
  return node.is("conv") && facts.operand(node, conv_weight).type.shape.back() > widest;
}

// Products that are added up for one element of the result.
std::int64_t contraction(const GraphFacts& facts, const Node& node) {
  if (node.is("matmul")) {
    const Shape& x = facts.operand(node, 0).type.shape;
    return node.flag("transpose_x") && x.rank() > 1 ? x[x.rank() - 2] : x.back();
  }
  if (!node.is("conv")) return 0;
  const Shape& weight = facts.operand(node, conv_weight).type.shape;  // (O, I / groups, kernel...)
  return weight.size() / weight[0];
}

bool sums_many(const GraphFacts& facts, const Node& node) {
  constexpr std::int64_t most = 8192;
  return contraction(facts, node) > most;
}

bool is_without_engine(const GraphFacts&, const Node& node) {
  return lacks_engine(node.op->name);
}

}  // namespace

bool lacks_engine(std::string_view op) {
  constexpr std::string_view names[] = {"acos",          "asin",
                                        "atanh",         "band_part",
                                        "cosh",          "crop_resize",
                                        "cumsum",        "gru",
                                        "lstm",          "rnn",
                                        "mod",           "non_zero",
                                        "one_hot",       "reduce_argmax",
                                        "reduce_argmin", "reduce_prod",
                                        "shape",         "reverse_sequence",
                                        "sinh",          "slice_update",
                                        "tan",           "sliding_windows",
                                        "argsort",       "classify",
                                        "cond",          "read_state",
                                        "reshape_like",  "while_loop"};
  constexpr std::string_view prefixes[] = {"gather", "scatter", "logical_", "random_", "list_"};
  const auto begins = [op](std::string_view prefix) { return op.starts_with(prefix); };
  return std::ranges::find(names, op) != std::end(names) || std::ranges::any_of(prefixes, begins);
}

std::span<const NodeCheck> node_checks() {
  static constexpr NodeCheck checks[] = {
      {"concat-rejected", is<concat>},
      {"sdpa-mask-ignored", has_mask},
      {"gelu-rejected", is<gelu>},
      {"conv-bias-rejected", has_bias},
      {"conv-32k-channels", has_32k_channels},
      {"conv-32k-input-channels", has_32k_input_channels},
      {"matmul-slower-than-conv", has_one_constant_operand},
      {"rsqrt-rejected", is<rsqrt>},
      {"reduce-mean-rejected", is<reduce_mean>},
      {"pow-rejected-m1", is<pow>},
      {"softmax-power-of-two", softmax_beside_power_of_two},
      {"softmax-long-axis", softmax_is_long},
      {"data-movement-m1", moves_data},
      {"matmul-constant-m1", has_constant_operand},
      {"matmul-transpose-y-slow", transposes_y},
      {"conv-weight-constant", has_runtime_weight},
      {"mul-batch-broadcast", broadcasts_batch},
      {"sqrt-wrong-m1", is<sqrt>},
      {"flat-axis-hangs-m1", is_flat},
      {"multiply-by-zero", multiplies_by_zero},
      {"identity-rejected", is<identity>},
      {"ops-without-engine", is_without_engine},
      {"largest-axis", has_long_axis},
      {"conv-kernel-width", has_wide_kernel},
      {"contraction-length", sums_many},
  };
  return checks;
}

}  // namespace orion::ane
