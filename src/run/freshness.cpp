#include "run/freshness.h"

#include "orion/sampler.h"

#include <cmath>

namespace orion {
namespace {

// Outputs' change below this share of fp16's rounding, summed over all elements, says nothing.
constexpr double least_change = 0.05;

// Numbers around 1, the same in every run.
Tensor fixed_input(const TensorType& type) {
  Random random(0x5eed);
  const Tensor wide({DType::fp32, type.shape});
  for (float& value : wide.as<float>()) value = static_cast<float>(4.0 * random.uniform() - 2.0);
  return convert(wide, type.dtype);
}

}  // namespace

Freshness::Freshness(const Graph& graph, Device& host) {
  StageCompiler compiler(host, nullptr);
  program_ = compiler.compile(graph);
  for (const NodeId id : graph.inputs())
    if (graph.node(id).name == "x") x_ = fixed_input(graph.node(id).type);
}

Tensor Freshness::reference(const std::function<Tensor(const std::string&)>& weights,
                            const TensorMap& inputs) {
  Tensor hidden;
  const auto memory = [&](const Port& port) {
    if (port.name == "x") return x_;
    if (port.name == "hidden") return hidden = Tensor(port.type);
    return inputs.find(port.name)->second;
  };
  run_stage(program_, memory, weights);
  return hidden;
}

std::optional<double> Freshness::measure(const Tensor& device, const Tensor& older, const Tensor& newer) {
  const Tensor d = convert(device, DType::fp32), a = convert(older, DType::fp32),
               b = convert(newer, DType::fp32);
  double along = 0.0, change = 0.0, rounding = 0.0;
  for (std::size_t i = 0; i < d.as<float>().size(); ++i) {
    const double s = static_cast<double>(b.as<float>()[i]) - static_cast<double>(a.as<float>()[i]);
    along += (static_cast<double>(d.as<float>()[i]) - static_cast<double>(a.as<float>()[i])) * s;
    change += s * s;
    rounding += std::pow(static_cast<double>(b.as<float>()[i]) * 0x1p-11, 2.0);
  }
  if (change == 0.0 || std::sqrt(change) < least_change * std::sqrt(rounding)) return std::nullopt;
  return along / change;
}

}  // namespace orion
