// Differentiated graphs in stages: the same values as in one graph, nothing computed twice.
#include "ir/rewrite.h"
#include "model_samples.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"
#include "orion/segments.h"
#include "run/train_stages.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

using namespace orion;
using namespace orion::test;

namespace {

using Names = std::set<std::string>;

constexpr std::int64_t rows = 6, width = 4;
const TensorType plane{DType::fp32, {rows, width}};

// -- small graphs, each with a twist ----------------------------------------------------------------------

struct Sample {
  std::string_view name;
  Graph (*graph)();
  std::vector<std::string> inputs = {"x"};  // to differentiate by
};

Graph chain() {
  Graph g;
  const Value x = g.input("x", plane);
  const Value h = ops::silu(ops::matmul(x, g.weight("a.weight", {DType::fp32, {width, 5}})));
  g.output("y", ops::add(x, ops::matmul(h, g.weight("b.weight", {DType::fp32, {5, width}}))));
  return g;
}

// The gradients of exp and softmax read their results, which are the graph's outputs.
Graph outputs_are_taps() {
  Graph g;
  const Value x = g.input("x", plane);
  const Value h = ops::exp(ops::mul(x, g.weight("w", plane)));
  g.output("h", h);
  g.output("y", ops::softmax(h, 1));
  return g;
}

Graph tied() {
  Graph g;
  const Value x = g.input("x", plane);
  const Value w = g.weight("w", {DType::fp32, {width, width}});
  g.output("y", ops::matmul(ops::tanh(ops::matmul(x, w)), w, false, true));
  return g;
}

// Only an int output depends on `v`.
Graph unused_weight() {
  Graph g;
  const Value x = g.input("x", plane);
  const Value v = g.weight("v", plane);
  g.output("y", ops::mul(x, g.weight("w", plane)));
  g.output("count", ops::cast(v, "int32"));
  return g;
}

Graph other_input() {
  Graph g;
  const Value x = g.input("x", plane);
  const Value z = g.input("z", plane);
  g.output("y", ops::mul(ops::mul(x, z), g.weight("w", plane)));
  return g;
}

Graph rows_of_a_table() {
  Graph g;
  const Value ids = g.input("ids", {DType::int32, {rows}});
  g.output("y", ops::gather(g.weight("table", {DType::fp32, {5, width}}), ids));
  return g;
}

// The table is read and multiplied with: rows are scattered, and something is added.
Graph table_and_head() {
  Graph g;
  const Value ids = g.input("ids", {DType::int32, {rows}});
  const Value table = g.weight("table", {DType::fp32, {5, width}});
  g.output("y", ops::matmul(ops::gather(table, ids), table, false, true));
  return g;
}

// d_x and w's gradient are d_y itself.
Graph gradients_are_inputs() {
  Graph g;
  g.output("y", ops::add(g.input("x", plane), g.weight("w", plane)));
  return g;
}

Graph input_without_influence() {
  Graph g;
  g.input("x", plane);
  g.output("y", ops::exp(g.weight("w", plane)));
  return g;
}

Graph input_is_output() {
  Graph g;
  const Value x = g.input("x", plane);
  g.output("same", x);
  g.output("y", ops::mul(x, g.weight("w", plane)));
  return g;
}

Graph reshapes_between() {
  Graph g;
  const Value x = g.input("x", plane);
  const Value h = ops::reshape(ops::exp(ops::mul(x, g.weight("w", plane))), {width, rows});
  g.output("y", ops::mul(ops::square(h), g.weight("v", {DType::fp32, {width, rows}})));
  return g;
}

std::vector<Sample> samples() {
  return {{"chain", chain},
          {"outputs are taps", outputs_are_taps},
          {"tied", tied},
          {"unused weight", unused_weight},
          {"an input that is not differentiated", other_input},
          {"both inputs", other_input, {"x", "z"}},
          {"no input", other_input, {}},
          {"rows of a table", rows_of_a_table, {}},
          {"table and head", table_and_head, {}},
          {"gradients are inputs", gradients_are_inputs},
          {"input without influence", input_without_influence},
          {"input is output", input_is_output},
          {"reshapes between", reshapes_between}};
}

// -- values ---------------------------------------------------------------------------------------

Tensor random_values(const TensorType& type, Random& random) {
  const Tensor wide({DType::fp32, type.shape});
  for (float& value : wide.as<float>())
    value = static_cast<float>(type.dtype == DType::int32 ? std::floor(random.uniform() * 5.0)
                                                          : random.uniform() * 2.0 - 1.0);
  return convert(wide, type.dtype);
}

TensorMap values_of(const Graph& graph, std::string_view op, Random& random) {
  TensorMap values;
  for (const Node& node : graph.nodes())
    if (node.is(op)) values.emplace(node.name, random_values(node.type, random));
  return values;
}

double norm(const Tensor& x) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < x.shape().size(); ++i) sum += x.at(i) * x.at(i);
  return std::sqrt(sum);
}

double distance(const Tensor& x, const Tensor& y) {
  REQUIRE(x.shape() == y.shape());
  double sum = 0.0;
  for (std::int64_t i = 0; i < x.shape().size(); ++i) sum += std::pow(x.at(i) - y.at(i), 2.0);
  return std::sqrt(sum);
}

void check_near(const TensorMap& actual, const std::string& name, const Tensor& wanted, double tolerance) {
  CAPTURE(name);
  REQUIRE(actual.contains(name));
  CHECK(distance(actual.at(name), wanted) <= tolerance * (norm(wanted) + 1e-6));
}

// All stages one after the other, each reading what the earlier ones gave.
TensorMap run_in_stages(const Stages& stages, TensorMap values, const TensorMap& weights,
                        const TensorMap& before) {
  for (const Graph* stage : {&stages.forward, &stages.backward}) {
    TensorMap results = evaluate(*stage, values, weights);
    values.merge(results);
  }
  values.insert(before.begin(), before.end());
  TensorMap results = evaluate(stages.weights, values, weights);
  for (auto& [name, value] : results) values.insert_or_assign(name, value);
  return values;
}

struct Values {
  TensorMap inputs, weights, before;  // d_<output> among the inputs; the gradients so far

  explicit Values(const Differentiated& whole) {
    Random random(7);
    inputs = values_of(whole.graph, "input", random);
    weights = values_of(whole.graph, "weight", random);
    for (const Output& output : whole.graph.outputs())
      if (std::ranges::find(whole.gradients, output.name, &GradientPort::port) != whole.gradients.end())
        before.emplace(output.name,
                       random_values({DType::fp32, whole.graph.node(output.node).type.shape}, random));
  }
};

Tensor sum(const Tensor& x, const Tensor& y) {
  const Tensor result({DType::fp32, x.shape()});
  for (std::int64_t i = 0; i < x.shape().size(); ++i)
    result.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(x.at(i) + y.at(i));
  return result;
}

// A value of the joint graph, or a gradient added in fp32 to what it was.
void check_result(const TensorMap& given, const std::string& name, const Values& values, const Tensor& wanted,
                  double tolerance) {
  const auto before = values.before.find(name);
  const bool is_sum = before != values.before.end();
  check_near(given, name, is_sum ? sum(before->second, wanted) : wanted, tolerance);
  CHECK(given.at(name).dtype() == (is_sum ? DType::fp32 : wanted.dtype()));
}

// Stages and the joint graph against the joint graph's own values. Stages that compute in another width
// than the joint graph round differently.
void check_values(const Differentiated& whole, const Stages& stages, double tolerance) {
  const Values values(whole);
  const TensorMap joint = evaluate(whole.graph, values.inputs, values.weights);
  const TensorMap staged = run_in_stages(stages, values.inputs, values.weights, values.before);
  for (const Output& output : whole.graph.outputs()) {
    CAPTURE(output.name);
    const auto before = values.before.find(output.name);
    if (before == values.before.end())
      CHECK(staged.at(output.name).identical(joint.at(output.name)));
    else
      check_near(staged, output.name, sum(before->second, joint.at(output.name)), tolerance);
  }
  TensorMap inputs = values.inputs;
  inputs.insert(values.before.begin(), values.before.end());
  const TensorMap summed = evaluate(accumulating(whole), inputs, values.weights);
  for (const Output& output : whole.graph.outputs())
    check_result(summed, output.name, values, joint.at(output.name), tolerance);
}

// Gradients as they are, but where rows are scattered into what was there.
void check_overwriting(const Differentiated& whole, double tolerance) {
  const Values values(whole);
  const TensorMap joint = evaluate(whole.graph, values.inputs, values.weights);
  const Graph graph = overwriting(accumulating(whole), whole.gradients);
  TensorMap inputs = values.inputs;
  for (const auto& [name, before] : values.before) {
    const NodeId last = std::ranges::find(graph.outputs(), name, &Output::name)->node;
    CHECK(graph.find(name).has_value() == graph.node(last).is("scatter"));
    if (graph.find(name)) inputs.emplace(name, before);
  }
  const TensorMap written = evaluate(graph, inputs, values.weights);
  for (const Output& output : whole.graph.outputs()) {
    CAPTURE(output.name);
    const Tensor& wanted = joint.at(output.name);
    check_near(written, output.name,
               graph.find(output.name) ? sum(values.before.at(output.name), wanted) : wanted, tolerance);
    CHECK(written.at(output.name).dtype() ==
          (values.before.contains(output.name) ? DType::fp32 : wanted.dtype()));
  }
}

// A backward stage that gives the weights' gradients too.
void check_two_stages(const Differentiated& whole, double tolerance) {
  const Stages stages = in_stages(whole, {}, false);
  CHECK(stages.weights.size() == 0);
  CHECK(stages.gradients.size() == whole.gradients.size());
  const Values values(whole);
  const TensorMap joint = evaluate(whole.graph, values.inputs, values.weights);
  TensorMap staged = values.inputs;
  staged.merge(evaluate(stages.forward, staged, values.weights));
  staged.insert(values.before.begin(), values.before.end());
  const TensorMap last = evaluate(stages.backward, staged, values.weights);
  for (const Output& output : whole.graph.outputs()) {
    CAPTURE(output.name);
    const bool is_forward = std::ranges::find(whole.outputs, output.name) != whole.outputs.end();
    check_result(is_forward ? staged : last, output.name, values, joint.at(output.name), tolerance);
  }
}

// -- structure ------------------------------------------------------------------------------------

bool is_view_of_source(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.op->is_source()) return true;
  return (node.is("reshape") || node.is("transpose")) && is_view_of_source(graph, node.inputs[0]);
}

// What stages may have for themselves each.
bool is_free(const Graph& graph, NodeId id) {
  return graph.node(id).is("reshape") || is_view_of_source(graph, id);
}

// How often each op is computed.
std::map<std::string, std::int64_t> work(std::initializer_list<const Graph*> graphs) {
  std::map<std::string, std::int64_t> counts;
  for (const Graph* graph : graphs) {
    const std::vector<bool> live = live_nodes(*graph);
    for (NodeId id = 0; id < graph->size(); ++id)
      if (live[static_cast<std::size_t>(id)] && !is_free(*graph, id))
        ++counts[std::string(graph->node(id).op->name)];
  }
  return counts;
}

// Casts to fp32 are not counted, nor the zeros that rows are no longer scattered into.
void check_work(const Differentiated& whole, const Stages& stages) {
  std::map<std::string, std::int64_t> wanted = work({&whole.graph});
  std::map<std::string, std::int64_t> actual = work({&stages.forward, &stages.backward, &stages.weights});
  for (const GradientPort& gradient : whole.gradients)
    for (const Output& output : stages.weights.outputs())
      if (output.name == gradient.port && stages.weights.node(output.node).is("add")) ++wanted["add"];
  for (const char* op : {"cast", "broadcast_to"}) {
    if (std::string_view(op) == "broadcast_to") CHECK(actual[op] <= wanted[op]);
    wanted.erase(op);
    actual.erase(op);
  }
  CHECK(actual == wanted);
}

Names names_of(const Graph& graph, std::string_view prefix) {
  Names names;
  for (const NodeId id : graph.inputs())
    if (graph.node(id).name.starts_with(prefix)) names.insert(graph.node(id).name);
  return names;
}

Names outputs_of(const Graph& graph, std::string_view prefix) {
  Names names;
  for (const Output& output : graph.outputs())
    if (output.name.starts_with(prefix)) names.insert(output.name);
  return names;
}

Names together(Names a, const Names& b) {
  a.insert(b.begin(), b.end());
  return a;
}

// What crosses is what is read, and is worth keeping.
void check_crossings(const Stages& stages) {
  CHECK(outputs_of(stages.forward, "tap_") ==
        together(names_of(stages.backward, "tap_"), names_of(stages.weights, "tap_")));
  CHECK(outputs_of(stages.backward, "cut_") == names_of(stages.weights, "cut_"));
  CHECK(names_of(stages.forward, "d_").empty());
  std::set<NodeId> seen;
  for (const Graph* graph : {&stages.forward, &stages.backward}) {
    seen.clear();
    for (const Output& output : graph->outputs()) {
      if (!output.name.starts_with("tap_") && !output.name.starts_with("cut_")) continue;
      CHECK_FALSE(is_free(*graph, output.node));
      CHECK(seen.insert(output.node).second);
    }
  }
}

void check_interface(const Graph& graph) {
  verify(graph);
  for (const NodeId id : graph.inputs()) CHECK(is_identifier(graph.node(id).name));
  for (const Output& output : graph.outputs()) CHECK(is_identifier(output.name));
}

void check_stages(const Differentiated& whole, double tolerance) {
  const Stages stages = in_stages(whole);
  for (const Graph* graph : {&whole.graph, &stages.forward, &stages.weights}) check_interface(*graph);
  if (!stages.backward.outputs().empty()) check_interface(stages.backward);
  CHECK(outputs_of(stages.weights, "") == names_of(stages.weights, "dw_"));
  check_work(whole, stages);
  check_crossings(stages);
  check_values(whole, stages, tolerance);
  check_two_stages(whole, tolerance);
  check_overwriting(whole, tolerance);
}

// -- gradients ------------------------------------------------------------------------------------

double loss_of(const Graph& graph, const TensorMap& inputs, const TensorMap& weights, const TensorMap& dy) {
  const TensorMap outputs = evaluate(graph, inputs, weights);
  double loss = 0.0;
  for (const auto& [name, value] : outputs)
    for (std::int64_t i = 0; is_float(value.dtype()) && i < value.shape().size(); ++i)
      loss += value.at(i) * dy.at("d_" + name).at(i);
  return loss;
}

double along(const Tensor& gradient, const Tensor& direction) {
  double total = 0.0;
  for (std::int64_t i = 0; i < gradient.shape().size(); ++i) total += gradient.at(i) * direction.at(i);
  return total;
}

// The slope of the loss along a random direction of one tensor, from the values of the graph alone.
void check_slope(const Graph& graph, const Differentiated& whole, const std::string& port,
                 const std::string& name) {
  CAPTURE(name);
  Values values(whole);
  const Tensor gradient = evaluate(whole.graph, values.inputs, values.weights).at(port);
  TensorMap& holder = values.weights.contains(name) ? values.weights : values.inputs;
  const Tensor start = holder.at(name);
  Random random(11);
  const Tensor direction = random_values(start.type(), random);
  constexpr float step = 4e-3F;
  double ends[2];
  for (const int side : {0, 1}) {
    const Tensor moved = start.clone();
    for (std::size_t i = 0; i < moved.as<float>().size(); ++i)
      moved.as<float>()[i] += (side == 0 ? step : -step) * direction.as<float>()[i];
    holder.insert_or_assign(name, moved);
    ends[side] = loss_of(graph, values.inputs, values.weights, values.inputs);
  }
  const double slope = (ends[0] - ends[1]) / (2.0 * static_cast<double>(step));
  CHECK(std::abs(slope - along(gradient, direction)) <= 3e-3 * norm(gradient) * norm(direction));
}

void check_slopes(const Graph& graph, const Differentiated& whole, std::span<const std::string> inputs) {
  for (const std::string& input : inputs) check_slope(graph, whole, "d_" + input, input);
  for (const GradientPort& gradient : whole.gradients)
    check_slope(graph, whole, gradient.port, gradient.weight);
}

constexpr SegmentKind kinds[] = {SegmentKind::attention, SegmentKind::feed_forward};
const std::string x_name = "x";

}  // namespace

TEST_CASE("stages of small graphs are the whole, cut") {
  for (const Sample& sample : samples()) {
    CAPTURE(sample.name);
    const Graph graph = sample.graph();
    const Differentiated whole = differentiate(graph, sample.inputs);
    CHECK(whole.outputs.size() == graph.outputs().size());
    check_stages(whole, 1e-6);
    check_slopes(graph, whole, sample.inputs);
  }
}

TEST_CASE("outputs that are read later are no taps") {
  const Stages stages = in_stages(differentiate(outputs_are_taps(), std::span(&x_name, 1)));
  CHECK(outputs_of(stages.forward, "") == Names{"h", "y"});
  CHECK(names_of(stages.backward, "") == Names{"d_h", "d_y", "h", "y"});
  const Stages alone = in_stages(differentiate(outputs_are_taps(), {}));
  CHECK(alone.backward.outputs().empty());
}

TEST_CASE("rows of gradients are scattered into what was there") {
  const Stages stages = in_stages(differentiate(rows_of_a_table(), {}));
  const Node& last = stages.weights.node(stages.weights.outputs().front().node);
  REQUIRE(last.is("scatter"));
  CHECK(stages.weights.node(last.inputs[0]).is("input"));
}

TEST_CASE("what cannot be differentiated by is refused") {
  const std::string missing = "z";
  CHECK_THROWS_WITH(differentiate(chain(), std::span(&missing, 1)), "differentiate: no input 'z'");
  const std::string ids = "ids";
  CHECK_THROWS_AS(differentiate(rows_of_a_table(), std::span(&ids, 1)), Error);
}

TEST_CASE("weights become inputs, once each") {
  std::vector<WeightPort> ports;
  const Graph graph = weights_as_inputs(tied(), ports);
  check_interface(graph);
  REQUIRE(ports.size() == 1);
  CHECK(ports[0].weight == "w");
  CHECK(names_of(graph, "") == Names{"w_0", "x"});
}

TEST_CASE("training segments of every architecture, in both layouts") {
  for (const ModelConfig& config : tiny_configs())
    for (const SegmentKind kind : kinds)
      for (const Layout layout : {Layout::rows, Layout::columns})
        for (const std::int64_t batch : {1, 2}) {
          CAPTURE(config.model_type);
          CAPTURE(segment_name(kind));
          CAPTURE(batch);
          CAPTURE((layout == Layout::rows));
          const Graph graph = training_layer(config, {.kind = kind,
                                                      .layer = 1,
                                                      .tokens = 5,
                                                      .batch = batch,
                                                      .layout = layout,
                                                      .dtype = DType::fp32});
          const Differentiated fused = differentiate(graph, std::span(&x_name, 1));
          check_stages(fused, 1e-5);
          check_stages(differentiate(graph, std::span(&x_name, 1), shared_parts), 1e-5);
          check_slopes(graph, fused, std::span(&x_name, 1));
        }
}

TEST_CASE("training segments in fp16: weights' gradients are sums in fp32") {
  for (const ModelConfig& config : tiny_configs())
    for (const SegmentKind kind : kinds) {
      CAPTURE(config.model_type);
      const Graph graph = training_layer(config, {.kind = kind, .tokens = 5, .batch = 2});
      const Differentiated whole = differentiate(graph, std::span(&x_name, 1), shared_parts);
      check_stages(whole, 2e-2);
      const Stages stages = in_stages(whole);
      for (const Node& node : stages.weights.nodes())
        if (!node.op->is_source()) CHECK(node.type.dtype != DType::fp16);
    }
}

TEST_CASE("columns and rows are the same numbers") {
  for (const ModelConfig& config : tiny_configs())
    for (const SegmentKind kind : kinds) {
      CAPTURE(config.model_type);
      SegmentShape shape{.kind = kind, .layer = 1, .tokens = 5, .batch = 2, .dtype = DType::fp32};
      const Graph in_columns = training_layer(config, shape);
      shape.layout = Layout::rows;
      const Graph in_rows = training_layer(config, shape);
      Random random(5);
      const TensorMap weights = values_of(in_rows, "weight", random);
      const std::int64_t tokens = shape.batch * shape.tokens;
      const auto turned = [](const Tensor& plane_values) {
        const std::int64_t n = plane_values.shape()[0], m = plane_values.shape()[1];
        const Tensor result({DType::fp32, {1, m, 1, n}});
        for (std::int64_t i = 0; i < n * m; ++i)
          result.as<float>()[static_cast<std::size_t>(i % m * n + i / m)] =
              plane_values.as<float>()[static_cast<std::size_t>(i)];
        return result;
      };
      TensorMap rows_in = values_of(in_rows, "input", random), columns_in;
      for (const auto& [name, value] : rows_in) {
        Tensor all({DType::fp32, {name == "x" ? tokens : 2 * value.shape()[0], value.shape()[1]}});
        for (std::int64_t i = 0; i < all.shape().size(); ++i)
          all.as<float>()[static_cast<std::size_t>(i)] =
              value.as<float>()[static_cast<std::size_t>(i % value.shape().size())];
        columns_in.emplace(name, turned(all));
      }
      const Tensor wanted = evaluate(in_rows, rows_in, weights).at("hidden");
      check_near(evaluate(in_columns, columns_in, weights), "hidden", turned(wanted), 1e-5);
    }
}
