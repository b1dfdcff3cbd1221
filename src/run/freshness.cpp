#include "run/freshness.h"

#include "orion/sampler.h"

#include <algorithm>
#include <cmath>

namespace orion {
namespace {

// Half of 1, where old and new weights part, is then eight times the measure's own uncertainty.
constexpr double least_change = 16.0;
constexpr double half_rounding = 0x1p-11;

// Numbers around 1, the same in every run.
Tensor fixed_input(const Shape& shape) {
  Random random(0x5eed);
  const Tensor wide({DType::fp32, shape});
  for (float& value : wide.as<float>()) value = static_cast<float>(4.0 * random.uniform() - 2.0);
  return convert(wide, DType::fp16);
}

double dot(const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

std::vector<double> values_of(const Tensor& tensor) {
  const Tensor wide = convert(tensor, DType::fp32);
  return {wide.as<float>().begin(), wide.as<float>().end()};
}

// x - factor y
std::vector<double> difference(std::vector<double> x, const std::vector<double>& y, double factor = 1.0) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] -= factor * y[i];
  return x;
}

}  // namespace

std::optional<double> moved(const Answers& before, const Answers& after) {
  const std::vector<double> now = values_of(after.host);
  const std::vector<double> s = difference(now, values_of(before.host));
  const std::vector<double> d = difference(values_of(after.device), values_of(before.device));
  const double change = dot(s, s);
  const double share = change > 0.0 ? dot(d, s) / change : 0.0;
  const std::vector<double> rest = difference(d, s, share);
  const auto count = static_cast<double>(s.size());
  const double noise =
      std::max(std::sqrt(dot(rest, rest) / count), half_rounding * std::sqrt(dot(now, now) / count));
  const bool is_seen = std::isfinite(noise) && std::sqrt(change) > least_change * noise;
  return is_seen ? std::optional(share) : std::nullopt;
}

Freshness::Freshness(const Graph& graph, Device& host) {
  StageCompiler compiler(host);
  program_ = compiler.compile(graph);
  for (const NodeId id : graph.inputs())
    if (graph.node(id).name == "x") x_ = fixed_input(graph.node(id).type.shape);
}

Tensor Freshness::answer(const std::function<Tensor(const std::string&)>& weights, const TensorMap& inputs) {
  Tensor hidden;
  const auto memory = [&](const Port& port) {
    if (port.name == "hidden") return hidden = Tensor(port.type);
    return convert(port.name == "x" ? x_ : inputs.find(port.name)->second, port.type.dtype);
  };
  run_stage(program_, memory,
            [&](const std::string& weight) { return convert(weights(weight), DType::fp32); });
  return hidden;
}

}  // namespace orion
