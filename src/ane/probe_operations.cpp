// P6, P10: one operation each, compiled, run and compared with the op table's own values.
#include "ane/probe_trial.h"
#include "ane/probes.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

namespace orion::ane {
namespace {

// As all reports can have it: 48 KiB, rows of 128 bytes.
const TensorType plane{DType::fp16, {1, 384, 1, 64}};
const TensorType square{DType::fp16, {1, 64, 1, 64}};

struct Operation {
  std::string_view limit;
  Value (*build)(Graph&, Value x);  // of a `plane`, or a `square` where the operation needs one
  bool is_square = false;
};

// Positive, away from zero: rsqrt, sqrt and log of it are tame.
Value positive(Value x) {
  return ops::add(x, x.owner().scalar(DType::fp16, 1.0));
}

Value attention_with_mask(Graph& graph, Value x) {
  const Value rows = ops::reshape(x, {1, 1, 64, 64});
  const Value mask = ops::mul(rows, graph.scalar(DType::fp16, 64.0));
  return ops::reshape(ops::scaled_dot_product_attention(rows, rows, rows, mask), {1, 64, 1, 64});
}

// Of two run-time values that differ along the first axis.
Value batch_product(Graph&, Value x) {
  const Value halves = ops::reshape(x, {2, 32, 1, 64});
  const Value half = ops::slice_by_index(halves, {0, 0, 0, 0}, {1, 32, 1, 64});
  return ops::reshape(ops::mul(halves, half), {1, 64, 1, 64});
}

constexpr Operation operations[] = {
    {"concat-rejected", [](Graph&, Value x) { return ops::concat({x, x}, 1); }},
    {"gelu-rejected", [](Graph&, Value x) { return ops::gelu(x); }},
    {"rsqrt-rejected", [](Graph&, Value x) { return ops::rsqrt(positive(x)); }},
    {"reduce-mean-rejected", [](Graph&, Value x) { return ops::reduce_mean(x, {1}, true); }},
    {"pow-rejected-m1", [](Graph& g, Value x) { return ops::pow(positive(x), g.scalar(DType::fp16, -0.5)); }},
    {"sqrt-wrong-m1", [](Graph&, Value x) { return ops::sqrt(positive(x)); }},
    {"softmax-power-of-two", [](Graph&, Value x) { return ops::softmax(x, 1); }},
    {"softmax-long-axis", [](Graph&, Value x) { return ops::softmax(ops::reshape(x, {1, 4, 1, 6144}), -1); }},
    {"identity-rejected", [](Graph&, Value x) { return ops::identity(x); }},
    {"sdpa-mask-ignored", attention_with_mask, true},
    {"mul-batch-broadcast", batch_product, true},
    {"conv-weight-constant", [](Graph&, Value x) { return ops::conv(x, ops::reshape(x, {64, 64, 1, 1})); },
     true},
    {"matmul-constant-m1",
     [](Graph& g, Value x) {
       const Value w = g.weight("w", {DType::fp16, {64, 64}});
       return ops::reshape(ops::matmul(ops::reshape(x, {1, 1, 64, 64}), w), {1, 64, 1, 64});
     },
     true},
    {"conv-bias-rejected",
     [](Graph& g, Value x) {
       const Value bias = g.weight("b", {DType::fp16, {64}});
       return ops::conv(x, g.weight("w", {DType::fp16, {64, 64, 1, 1}}), bias);
     },
     true},
    {"data-movement-m1",
     [](Graph&, Value x) { return ops::transpose(ops::reshape(x, {1, 64, 1, 64}), {0, 3, 2, 1}); }, true},
    {"ops-without-engine",
     [](Graph& g, Value x) {
       return ops::gather(x, g.constant(Tensor::from_ints(std::vector<std::int32_t>{1, 0}), "indices"), 1);
     }},
};

struct Comparison {
  Status status;
  bool agrees = false;
};

Comparison compare(Engine& engine, const Operation& operation) {
  Graph graph;
  const Value x = graph.input("x_in", operation.is_square ? square : plane);
  graph.output("z_out", operation.build(graph, x));
  TensorMap weights;
  for (const Node& node : graph.nodes())
    if (node.is("weight")) weights.emplace(node.name, noise(node.type, 7));
  const TensorMap inputs = {{"x_in", noise(x.type())}};
  const TensorMap expected = evaluate(graph, inputs, weights);
  std::vector<Bound> outputs = {{"z_out", Tensor(expected.at("z_out").type())}};
  Comparison result{.status = run(engine, program_of(graph, weights), sorted(inputs), outputs)};
  result.agrees = result.status.ok() && close(outputs[0].value, expected.at("z_out"));
  return result;
}

void probe_operation(Engine& engine, ProbeResult& result, const Operation& operation) {
  const Comparison seen = compare(engine, operation);
  const std::string outcome = !seen.status.ok() ? seen.status.message()
                              : seen.agrees     ? "right"
                                                : "wrong values";
  find(result, operation.limit, !seen.agrees, str(operation.limit, ": ", outcome));
}

std::string unary_text(std::string_view constants, std::string_view call) {
  return str("program(1.3)\n{\n    func main<ios18>(tensor<fp16, [1, 64, 1, 64]> x_in) {\n", constants,
             "        tensor<fp16, [1, 64, 1, 64]> z_out = ", call, ";\n    } -> (z_out);\n}\n");
}

struct Spelling {
  std::string_view limit;
  std::string text;
};

std::vector<Spelling> spellings() {
  const std::string rows =
      "        tensor<int32, [4]> rows = const()[name = string(\"rows\"), val = tensor<int32, [4]>([1, 1, "
      "64, 64])];\n"
      "        tensor<int32, [4]> plane = const()[name = string(\"plane\"), val = tensor<int32, [4]>([1, 64, "
      "1, 64])];\n"
      "        tensor<fp16, [1, 1, 64, 64]> a = reshape(x = x_in, shape = rows);\n"
      "        tensor<fp16, [1, 1, 64, 64]> b = matmul(x = a, y = a, transpose_x = bool(false), transpose_y "
      "= "
      "bool(false));\n";
  const std::string joined =
      "        tensor<fp16, [1, 128, 1, 64]> joined = concat(values = (x_in, x_in), axis = int32(1), "
      "interleave = "
      "bool(false));\n";
  return {{"matmul-flags-named", unary_text(rows, "reshape(x = b, shape = plane)")},
          {"concat-arguments-named", unary_text(joined, "relu(x = x_in)")},
          {"log-epsilon", unary_text("", "log(x = x_in)")}};
}

void probe_spelling(Engine& engine, ProbeResult& result, const Spelling& spelling) {
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, {spelling.text}, status);
  if (model != nullptr) status = model->unload();
  find(result, spelling.limit, !status.ok(),
       str(spelling.limit, ": ", status.ok() ? "taken" : status.message()));
}

}  // namespace

// tile is left out: it is reported to make every later evaluation of the process fail.
void probe_operations(Engine& engine, ProbeResult& result) {
  for (const Operation& operation : operations) probe_operation(engine, result, operation);
  for (const Spelling& spelling : spellings()) probe_spelling(engine, result, spelling);
  result.result = answer_of(result.limits);
}

void probe_int8(Engine& engine, ProbeResult& result) {
  std::string values = "0";
  for (int i = 1; i < 64; ++i) values += ", 0";
  const std::string weight = str(
      "        tensor<fp16, [64]> w = constexpr_affine_dequantize()[axis = int32(0), name = string(\"w\"), "
      "quantized_data = tensor<int8, [64]>([",
      values, "]), scale = fp16(0x1p-7), zero_point = int8(0)];\n");
  probe_spelling(engine, result, {"compressed-constants-rejected", unary_text(weight, "relu(x = x_in)")});
  result.result = answer_of(result.limits);
}

}  // namespace orion::ane
