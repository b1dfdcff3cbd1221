// P11: arithmetic, one question per column of a plane.
#include "ane/probe_trial.h"
#include "ane/probes.h"
#include "orion/error.h"
#include "orion/ops.h"

#include <cmath>
#include <limits>

namespace orion::ane {
namespace {

constexpr std::int64_t channels = 64;
constexpr std::int64_t columns = 64;
const TensorType plane{DType::fp16, {1, channels, 1, columns}};

// Element (channel, any column).
using Fill = double (*)(std::int64_t channel);

Tensor filled(const TensorType& type, Fill fill) {
  Tensor values(TensorType{DType::fp32, type.shape});
  const std::int64_t rest = type.shape.size() / channels;
  for (std::int64_t i = 0; i < type.shape.size(); ++i)
    values.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(fill(i / rest));
  return convert(values, type.dtype);
}

// The first element of the result; `graph` has the input x_in and the output z_out.
Status value_of(Engine& engine, const Graph& graph, const TensorMap& weights, Fill x, double& value) {
  const Bound input{"x_in", filled(plane, x)};
  std::vector<Bound> outputs = {{"z_out", Tensor(graph.node(graph.outputs()[0].node).type)}};
  Status status = run(engine, program_of(graph, weights), {&input, 1}, outputs);
  value = outputs[0].value.at(0);
  return status;
}

// Sum over 64 channels of x times w, by a convolution with 64 equal rows.
Status dot(Engine& engine, Fill x, Fill w, double& value) {
  Graph graph;
  const TensorType type{DType::fp16, {channels, channels, 1, 1}};
  graph.output("z_out", ops::conv(graph.input("x_in", plane), graph.weight("w", type)));
  Tensor rows(TensorType{DType::fp32, type.shape});
  for (std::int64_t i = 0; i < type.shape.size(); ++i)
    rows.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(w(i % channels));
  return value_of(engine, graph, {{"w", convert(rows, DType::fp16)}}, x, value);
}

Status unary(Engine& engine, Value (*op)(Value), Fill x, double& value) {
  Graph graph;
  graph.output("z_out", op(graph.input("x_in", plane)));
  return value_of(engine, graph, {}, x, value);
}

double ones(std::int64_t) {
  return 1.0;
}

struct Question {
  std::string_view limit;
  std::string_view what;
  Status (*ask)(Engine&, double& value);
  bool (*holds)(double value);
};

// 1.0322 squared leaves 65 * 2^-20 when it is rounded to fp16. Half of the products are that square, the
// others take the rounded square away.
constexpr double odd = 1.0 + 33 * 0x1p-10;
constexpr double odd_square_rounded = 1.0 + 67 * 0x1p-10;

constexpr Question questions[] = {
    {"products-rounded", "sum of products minus the sum of rounded products",
     [](Engine& engine, double& value) {
       return dot(
           engine, [](std::int64_t i) { return i % 2 == 0 ? odd : 1.0; },
           [](std::int64_t i) { return i % 2 == 0 ? odd : -odd_square_rounded; }, value);
     },
     [](double value) { return value == 0.0; }},
    {"matmul-overflow", "64 products of 512",
     [](Engine& engine, double& value) {
       return dot(engine, [](std::int64_t) { return 512.0; }, ones, value);
     },
     [](double value) { return value != 32768.0; }},
    {"denormals-flushed", "64 products of 2^-16, in units of 2^-10",
     [](Engine& engine, double& value) {
       Status status =
           dot(engine, [](std::int64_t) { return 0x1p-8; }, [](std::int64_t) { return 0x1p-8; }, value);
       value *= 0x1p10;
       return status;
     },
     [](double value) { return value == 0.0; }},
    {"reduce-sum-narrow", "2048 and 63 ones, by reduce_sum",
     [](Engine& engine, double& value) {
       return unary(
           engine, [](Value x) { return ops::reduce_sum(x, {1}, true); },
           [](std::int64_t i) { return i == 0 ? 2048.0 : 1.0; }, value);
     },
     [](double value) { return std::abs(value - 2111.0) > 1.0; }},
    {"nan-not-propagated", "relu of NaN",
     [](Engine& engine, double& value) {
       return unary(
           engine, [](Value x) { return ops::relu(x); },
           [](std::int64_t) { return std::numeric_limits<double>::quiet_NaN(); }, value);
     },
     [](double value) { return !std::isnan(value); }},
    {"ties-away", "1 + 2^-11, in units of 2^-10 above 1",
     [](Engine& engine, double& value) {
       Status status = unary(
           engine, [](Value x) { return ops::add(x, x.owner().scalar(DType::fp16, 0x1p-11)); }, ones, value);
       value = (value - 1.0) * 0x1p10;
       return status;
     },
     [](double value) { return value == 1.0; }},
};

}  // namespace

void probe_numerics(Engine& engine, ProbeResult& result) {
  for (const Question& question : questions) {
    double value = 0.0;
    const Status status = question.ask(engine, value);
    if (!status.ok()) {
      note(result, str(question.what, ": ", status.message()));
      continue;
    }
    find(result, question.limit, question.holds(value), str(question.what, ": ", value));
  }
  result.result = answer_of(result.limits);
}

}  // namespace orion::ane
