// Rows of weights scaled up where the engine drops small products.
#include "ane/legalize_passes.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace orion::ane {
namespace {

// A row whose largest weight is below an eighth is brought between that and a quarter. Not further: each
// result stays below a quarter of the sum of |x|, so that only sums beyond 130,000 could overflow.
constexpr int target_exponent = -2;
constexpr int least_exponent = -14;  // of a normal fp16

// The power of two that a row is divided by: at most 1.
float row_power(std::span<const float> row) {
  float largest = 0.0F;
  for (const float value : row) largest = std::max(largest, std::abs(value));
  if (largest == 0.0F || !std::isfinite(largest)) return 1.0F;
  int exponent = 0;
  static_cast<void>(std::frexp(largest, &exponent));  // largest < 2^exponent
  return std::ldexp(1.0F, std::clamp(exponent - target_exponent, least_exponent, 0));
}

// A kernel's rows in fp32.
struct Rows {
  Tensor values;
  std::int64_t count, length;

  std::span<const float> row(std::int64_t i) const {
    return values.as<float>().subspan(static_cast<std::size_t>(i * length), static_cast<std::size_t>(length));
  }
};

Rows rows_of(const Tensor& kernel) {
  const std::int64_t count = kernel.shape()[0];
  return {kernel.dtype() == DType::fp32 ? kernel : convert(kernel, DType::fp32), count,
          kernel.shape().size() / count};
}

constexpr std::size_t conv_weight = 1;  // operands of conv: x, weight, bias

// By node: whether it is a weight that nothing uses but convolutions, as their kernel.
std::vector<bool> kernels(const Graph& graph) {
  std::vector<int> uses = graph.use_counts();
  for (const Node& node : graph.nodes())
    if (node.is("conv")) --uses[static_cast<std::size_t>(node.inputs[conv_weight])];
  std::vector<bool> found;
  for (NodeId id = 0; id < graph.size(); ++id)
    found.push_back(graph.node(id).is("weight") && uses[static_cast<std::size_t>(id)] == 0);
  return found;
}

class RowScaling {
 public:
  RowScaling(const Graph& graph, const Profile& profile, std::vector<WeightUse>& uses)
      : graph_(graph), uses_(uses), kernels_(kernels(graph)), free_(free_slots(graph, profile)) {}

  Graph run() {
    return rebuild(graph_, [this](const RebuildCall& call) -> Value {
      const bool scales =
          call.node.is("conv") && kernels_[static_cast<std::size_t>(call.node.inputs[conv_weight])];
      if (!scales) return {};
      const Value powers = powers_of(call);
      if (!powers) return {};
      std::vector<NodeId> ids;
      for (const Value& value : call.in) ids.push_back(value.id);
      return ops::mul(call.graph.copy(call.node, std::move(ids)), powers);
    });
  }

 private:
  // Empty if there is no slot left for them.
  Value powers_of(const RebuildCall& call) {
    const Node& kernel = call.in[conv_weight].node();
    const std::string name = kernel.name + "#rows";
    if (const auto known = call.graph.find(name)) return call.graph.value(*known);
    if (free_ < 1) return {};
    --free_;
    WeightUse& use = *std::ranges::find(uses_, kernel.name, &WeightUse::name);
    use.rows = WeightUse::Rows::divided;
    WeightUse powers = use;
    powers.name = name;
    powers.rows = WeightUse::Rows::powers;
    powers.type.shape = {1, kernel.type.shape[0], 1, 1};
    uses_.push_back(powers);
    return call.graph.weight(name, powers.type);
  }

  const Graph& graph_;
  std::vector<WeightUse>& uses_;
  std::vector<bool> kernels_;
  std::int64_t free_;
};

}  // namespace

//   %1 w: fp16 (96, 64, 1, 1) = weight()
//   %2 (1, 96, 1, 32) = conv(x=%0, weight=%1)
// becomes
//   %1 w: fp16 (96, 64, 1, 1) = weight()              each row divided by a power of two
//   %2 w#rows: fp16 (1, 96, 1, 1) = weight()          the powers
//   %3 (1, 96, 1, 32) = conv(x=%0, weight=%1)
//   %4 (1, 96, 1, 32) = mul(x=%3, y=%2)
//
// as far as there are slots for weights.
Graph scale_rows(const Graph& graph, const Profile& profile, std::vector<WeightUse>& uses) {
  return profile.has("denormals-flushed") ? RowScaling(graph, profile, uses).run() : graph;
}

Tensor with_rows(const Tensor& kernel, WeightUse::Rows rows) {
  if (rows == WeightUse::Rows::as_given) return kernel;
  const Rows found = rows_of(kernel);
  const Tensor result(
      {DType::fp32, rows == WeightUse::Rows::powers ? Shape{1, found.count, 1, 1} : kernel.shape()});
  float* to = result.as<float>().data();
  for (std::int64_t i = 0; i < found.count; ++i) {
    const float power = row_power(found.row(i));
    if (rows == WeightUse::Rows::powers)
      to[i] = power;
    else
      std::ranges::transform(found.row(i), to + i * found.length, [power](float w) { return w / power; });
  }
  return convert(result, kernel.dtype());
}

}  // namespace orion::ane
