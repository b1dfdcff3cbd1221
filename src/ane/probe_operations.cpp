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

namespace {

void probe_int8_constants(Engine& engine, ProbeResult& result) {
  std::string values = "0";
  for (int i = 1; i < 64; ++i) values += ", 0";
  const std::string weight = str(
      "        tensor<fp16, [64]> w = constexpr_affine_dequantize()[axis = int32(0), name = string(\"w\"), "
      "quantized_data = tensor<int8, [64]>([",
      values, "]), scale = fp16(0x1p-7), zero_point = int8(0)];\n");
  probe_spelling(engine, result, {"compressed-constants-rejected", unary_text(weight, "relu(x = x_in)")});
}

constexpr double int8_scale = 0x1p-7;

// z = (scale w) x, with w of int8 in the signature as `port`, and as `w` after the statement `taken`.
std::string int8_text(std::string_view port, std::string_view taken, std::string_view w) {
  const auto shape = [](std::string_view name, std::string_view sizes) {
    return str("        tensor<int32, [4]> ", name, " = const()[name = string(\"", name,
               "\"), val = tensor<int32, [4]>([", sizes, "])];\n");
  };
  const std::string_view rows = "tensor<fp16, [1, 1, 64, 64]>";
  const std::string_view plane_type = "tensor<fp16, [1, 64, 1, 64]>";
  return str("program(1.3)\n{\n    func main<ios18>(", port, " w_in, ", plane_type, " x_in) {\n",
             shape("rows", "1, 1, 64, 64"), shape("plane", "1, 64, 1, 64"),
             "        bool no = const()[name = string(\"no\"), val = bool(false)];\n"
             "        fp16 scale = const()[name = string(\"scale\"), val = fp16(0x1p-7)];\n",
             taken, "        ", plane_type, " scaled = dequantize(input = ", w, ", scale = scale);\n        ",
             rows, " a = reshape(x = scaled, shape = rows);\n        ", rows,
             " b = reshape(x = x_in, shape = rows);\n", "        ", rows,
             " c = matmul(x = a, y = b, transpose_x = no, transpose_y = no);\n        ", plane_type,
             " z_out = reshape(x = c, shape = plane);\n    } -> (z_out);\n}\n");
}

// Every int8, in fp16.
Tensor int8_values() {
  Tensor values(TensorType{DType::fp32, square.shape});
  const std::span<float> elements = values.as<float>();
  for (std::size_t i = 0; i < elements.size(); ++i)
    elements[i] = static_cast<float>(static_cast<std::int8_t>(i * 37 % 256));
  return convert(values, DType::fp16);
}

// Rows of int8 as a surface has them, carried two by two in halves.
Tensor int8_rows(const Tensor& values) {
  const Shape& shape = values.shape();
  Tensor rows(TensorType{DType::fp16, {shape[0], shape[1], shape[2], shape[3] / 2}});
  for (std::int64_t i = 0; i < shape.size(); ++i)
    rows.data()[i] = static_cast<std::byte>(static_cast<std::int8_t>(values.at(i)));
  return rows;
}

Tensor int8_product(const Tensor& w, const Tensor& x) {
  Graph graph;
  const auto rows = [](Value value) { return ops::reshape(value, {1, 1, 64, 64}); };
  const Value scaled = ops::mul(graph.input("w_in", square), graph.scalar(DType::fp16, int8_scale));
  const Value product = ops::matmul(rows(scaled), rows(graph.input("x_in", square)));
  graph.output("z_out", ops::reshape(product, {1, 64, 1, 64}));
  return evaluate(graph, {{"w_in", w}, {"x_in", x}}).at("z_out");
}

std::string int8_outcome(Engine& engine, const std::string& text, bool& agrees) {
  const Tensor w = int8_values();
  const Tensor x = noise(square);
  const Bound inputs[] = {{"w_in", int8_rows(w)}, {"x_in", x}};
  std::vector<Bound> outputs = {{"z_out", Tensor(square)}};
  const Status status = run(engine, {text}, inputs, outputs);
  agrees = status.ok() && close(outputs[0].value, int8_product(w, x));
  return !status.ok() ? status.message() : agrees ? "right" : "wrong values";
}

void probe_int8_inputs(Engine& engine, ProbeResult& result) {
  bool as_tensor = false;
  bool as_buffer = false;
  const std::string tensor =
      int8_outcome(engine, int8_text("tensor<int8, [1, 64, 1, 64]>", "", "w_in"), as_tensor);
  find(result, "int8-ports", !as_tensor, str("int8 input, dequantize and matmul: ", tensor));
  const std::string buffer = int8_outcome(
      engine,
      int8_text("tensor_buffer<int8, shape=[1, 64, 1, 64], strides=[4096, 64, 64, 1], "
                "interleave_factors=[1, 1, 1, 1]>",
                "        tensor<int8, [1, 64, 1, 64]> w = tensor_buffer_to_tensor<ios17>(input = w_in);\n",
                "w"),
      as_buffer);
  note(result, str("the same as tensor_buffer: ", buffer));
}

}  // namespace

void probe_int8(Engine& engine, ProbeResult& result) {
  probe_int8_constants(engine, result);
  probe_int8_inputs(engine, result);
  result.result = answer_of(result.limits);
}

}  // namespace orion::ane
