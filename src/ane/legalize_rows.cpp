// Rows of weights scaled up where the engine drops small products.
#include "ane/legalize_passes.h"
#include "base/threads.h"
#include "cpu/kernels.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

namespace orion::ane {
namespace {

// A row whose largest weight is below an eighth is brought between that and a quarter. Not further: each
// result stays below a quarter of the sum of |x|, so that only sums beyond 130,000 could overflow.
constexpr int target_exponent = -2;
constexpr int least_exponent = -14;  // of a normal fp16

// The largest magnitude, found in lanes so that the compiler can use vectors.
float largest_of(std::span<const float> row) {
  constexpr std::size_t lanes = 16;
  std::array<float, lanes> largest{};
  std::size_t i = 0;
  for (; i + lanes <= row.size(); i += lanes)
    for (std::size_t j = 0; j < lanes; ++j) {
      const float value = std::abs(row[i + j]);
      largest[j] = value > largest[j] ? value : largest[j];
    }
  for (; i < row.size(); ++i) largest[0] = std::max(largest[0], std::abs(row[i]));
  return *std::ranges::max_element(largest);
}

// The power of two that a row is divided by: at most 1.
float row_power(std::span<const float> row) {
  const float largest = largest_of(row);
  if (largest == 0.0F || !std::isfinite(largest)) return 1.0F;
  int exponent = 0;
  static_cast<void>(std::frexp(largest, &exponent));  // largest < 2^exponent
  return std::ldexp(1.0F, std::clamp(exponent - target_exponent, least_exponent, 0));
}

// Calls `use(i, values)` with the rows of a kernel in fp32, on all threads.
template <class Use>
void each_row(const Tensor& kernel, const Use& use) {
  const std::int64_t count = kernel.shape()[0];
  const std::int64_t length = kernel.shape().size() / count;
  shared_pool().split(count, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(length));
    for (std::int64_t i = begin; i < end; ++i) {
      if (kernel.dtype() == DType::fp16)
        cpu::widen(shared_pool(), kernel.as<std::uint16_t>().data() + i * length, row.data(), length);
      else
        std::copy_n(kernel.as<float>().data() + i * length, length, row.data());
      use(i, std::span(row));
    }
  });
}

Tensor powers_of_rows(const Tensor& kernel) {
  const Tensor powers({DType::fp32, {1, kernel.shape()[0], 1, 1}});
  each_row(kernel, [&](std::int64_t i, std::span<float> row) {
    powers.as<float>()[static_cast<std::size_t>(i)] = row_power(row);
  });
  return convert(powers, kernel.dtype());
}

void divide_rows(const Tensor& kernel, const Tensor& result) {
  each_row(kernel, [&](std::int64_t i, std::span<float> row) {
    const float factor = 1.0F / row_power(row);  // exactly: both are powers of two
    for (float& value : row) value *= factor;
    const std::size_t at = static_cast<std::size_t>(i) * row.size();
    if (kernel.dtype() == DType::fp16)
      cpu::narrow(shared_pool(), row.data(), result.as<std::uint16_t>().data() + at,
                  static_cast<std::int64_t>(row.size()));
    else
      std::ranges::copy(row, result.as<float>().begin() + static_cast<std::ptrdiff_t>(at));
  });
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

Tensor with_rows(const Tensor& kernel, WeightUse::Rows rows, bool in_place) {
  if (rows == WeightUse::Rows::as_given) return kernel;
  if (rows == WeightUse::Rows::powers) return powers_of_rows(kernel);
  const Tensor result = in_place ? kernel : Tensor(kernel.type());
  divide_rows(kernel, result);
  return result;
}

}  // namespace orion::ane
