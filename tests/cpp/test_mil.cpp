#include "base/number.h"
#include "orion/error.h"
#include "orion/mil.h"
#include "orion/ops.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

using namespace orion;

namespace {

constexpr std::string_view header =
    "program(1.3)\n"
    "[buildInfo = dict<string, string>({{\"coremlc-component-MIL\", \"3510.2.1\"}, "
    "{\"coremlc-version\", \"3505.4.1\"}, {\"coremltools-component-milinternal\", \"\"}, "
    "{\"coremltools-version\", \"9.0\"}})]\n";

// A graph with weights, scalars, lists, an inner name that MIL reserves and a constant in the file.
Graph sample() {
  Graph g("layer");
  const Value x = g.input("x", {DType::fp16, {1, 4, 1, 8}});
  const Value w = g.weight("model.0.weight", {DType::fp16, {6, 4, 1, 1}});
  const Value y = ops::conv(x, w);
  const Value big = g.constant(Tensor(TensorType{DType::fp16, {1, 6, 2, 8}}), "table");
  const Value sum = ops::add(y, big);
  const Value norm = ops::log(sum, 0.5);
  g.output("y", ops::softmax(g.add("relu", {norm}, {}, "bool"), 1));
  g.output("z", ops::concat({sum, ops::neg(y)}, 2));
  return g;
}

// A function body around which `wrapped` builds a program with input x: fp16 (2, 3).
std::string wrapped(std::string_view body) {
  return str("program(1.0) { func main<ios16>(tensor<fp16, [2, 3]> x) { ", body, " } -> (y); }");
}

std::string problem(std::string_view text, std::string_view function = "") {
  try {
    mil::parse(text, function);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string relu_of(std::string_view inside) {
  return wrapped(str("tensor<fp16, [2, 3]> y = relu(", inside, ");"));
}

}  // namespace

TEST_CASE("mil: the text of a small program") {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {1, 2}});
  const Value w = g.weight("lm_head.weight", {DType::fp16, {2, 3}});
  const Value product = ops::matmul(x, w);
  g.output("y", ops::mul(product, g.scalar(DType::fp16, 0.125)));
  CHECK(
      mil::emit(g) ==
      str(header,
          "{\n"
          "    func main<ios18>(tensor<fp16, [1, 2]> x) {\n"
          "            tensor<fp16, [2, 3]> lm_head_weight = const()[name = string(\"lm_head.weight\"), val "
          "= "
          "tensor<fp16, [2, 3]>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = "
          "uint64(64)))];\n"
          "            bool matmul_0_transpose_x_0 = const()[name = string(\"matmul_0_transpose_x_0\"), val "
          "= "
          "bool(false)];\n"
          "            bool matmul_0_transpose_y_0 = const()[name = string(\"matmul_0_transpose_y_0\"), val "
          "= "
          "bool(false)];\n"
          "            tensor<fp16, [1, 3]> matmul_0 = matmul(transpose_x = matmul_0_transpose_x_0, "
          "transpose_y = "
          "matmul_0_transpose_y_0, x = x, y = lm_head_weight)[name = string(\"matmul_0\")];\n"
          "            fp16 const_0 = const()[name = string(\"const_0\"), val = fp16(0x1p-3)];\n"
          "            tensor<fp16, [1, 3]> y = mul(x = matmul_0, y = const_0)[name = string(\"y\")];\n"
          "        } -> (y);\n"
          "}\n"));
}

TEST_CASE("mil: emit, parse, emit gives the same text") {
  const std::string text = mil::emit(sample());
  const Graph parsed = mil::parse(text);
  CHECK(mil::emit(parsed) == text);
  CHECK(parsed.name() == "layer");
  verify(parsed);
}

TEST_CASE("mil: a lowered graph is its own lowering and comes back from its text") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {3}});
  const Value w = g.weight("w", {DType::fp32, {3}});
  const Value sum = ops::add(ops::neg(x), w);
  g.output("w", sum);                                         // a weight's name
  g.output("x", ops::mul(sum, g.add("tanh", {x}, {}, "y")));  // an input's name: its new state
  g.output("y", sum);  // the same node again, under an inner node's name
  g.output("x_out", w);
  const Graph lowered = mil::lower_to_mil(g);
  verify(lowered);
  CHECK(mil::diff(lowered, mil::lower_to_mil(lowered)).empty());
  CHECK(mil::diff(lowered, mil::parse(mil::emit(g))).empty());
  CHECK(mil::emit(mil::parse(mil::emit(g))) == mil::emit(g));
  REQUIRE(lowered.outputs().size() == 4);
  CHECK(lowered.outputs()[0].name == "w");
  CHECK(lowered.outputs()[1].name == "x_out_0");
  CHECK(lowered.outputs()[3].name == "x_out");
  CHECK(lowered.node(lowered.outputs()[2].node).is("identity"));
}

TEST_CASE("mil: scalars need no empty lists") {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {1, 1}});
  const Value scalar = ops::reshape(x, {});
  g.output("y", ops::relu(ops::transpose(scalar, {})));
  const std::string text = mil::emit(g);
  CHECK(text.find("fp16 reshape_0 = squeeze(x = x)") != std::string::npos);
  CHECK(text.find("fp16 transpose_0 = identity(x = reshape_0)") != std::string::npos);
  CHECK(mil::diff(mil::lower_to_mil(g), mil::parse(text)).empty());
}

TEST_CASE("mil: names never collide") {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {4, 4}});
  const Value taken = g.add("relu", {x}, {}, "s_axis_0");
  const Value a = g.add("add", {x, g.weight("a.b", {DType::fp16, {4, 4}})}, {}, "a_b");
  const Value b = g.add("add", {a, g.weight("a-b", {DType::fp16, {4, 4}})}, {}, "BLOBFILE");
  const Value s = g.add("softmax", {b}, {{"axis", std::int64_t{0}}}, "s");
  g.output("y", ops::add(s, taken));
  const std::string text = mil::emit(g);
  for (const std::string_view part : {" s_axis_0 = relu", "int32 s_axis_0_0 = const", " a_b_0 = const",
                                      " a_b_1 = const", " BLOBFILE_0 = add", "axis = s_axis_0_0"})
    CHECK_MESSAGE(text.find(part) != std::string::npos, part);
  CHECK(mil::emit(mil::parse(text)) == text);
}

TEST_CASE("mil: an interface that MIL cannot state is refused") {
  Graph g;
  g.output("y", ops::relu(g.input("tensor", {DType::fp16, {1}})));
  CHECK_THROWS_WITH_AS(mil::emit(g), doctest::Contains("'tensor'"), Error);
  Graph h;
  const Value w = h.weight("mask", {DType::boolean, {2}});
  h.output("y", ops::cast(w, "fp16"));
  CHECK_THROWS_WITH_AS(mil::emit(h), doctest::Contains("'mask'"), Error);
}

TEST_CASE("mil: large constants go to the weight file, in node order") {
  const std::vector<mil::BlobEntry> entries = mil::blob_entries(sample());
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name == "model.0.weight");
  CHECK(entries[0].offset == 64);
  CHECK(entries[1].name == "table");
  CHECK(entries[1].offset == 192);
  CHECK(!entries[1].value.empty());
}

TEST_CASE("mil: floats are exact in hexadecimal") {
  for (const double value :
       {0.0, -0.0, 1.0, -1.5, 0.1, 65504.0, 0x1p-24, 0x1.fffffep+127, 0x1p-149, 0x1p-1074,
        std::numeric_limits<double>::max(), std::numeric_limits<double>::infinity()}) {
    const std::string text = hex_float(value);
    REQUIRE(read_float(text).has_value());
    CHECK(std::bit_cast<std::uint64_t>(*read_float(text)) == std::bit_cast<std::uint64_t>(value));
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isnan(value)) CHECK(*read_float(hex_float(value)) == value);
  }
  CHECK(hex_float(0.15625) == "0x1.4p-3");
  CHECK(std::isnan(*read_float("nan")));
  CHECK(*read_float("-1.25e-2") == -0.0125);
  CHECK(*read_float("0X.8P1") == 1.0);
  CHECK(*read_float("0x1000000000000000000000001p-96") == 1.0);
  CHECK(*read_float("0x1.00000000000008p+0") == 1.0);  // a tie goes to even
  CHECK(*read_float("0x1.00000000000018p+0") == 0x1.0000000000002p+0);
  CHECK(*read_float("0x1.00000000000008000000000001p+0") == 0x1.0000000000001p+0);  // just above one
  for (const std::string_view bad : {"", "-", "1e", "0x", "0xp1", "0x1p", "0x1p+-3", "0x1p9999999999",
                                     "1e999", "0x1p5000", "1.2.3", "infinity", "1f", "--1"})
    CHECK_MESSAGE(!read_float(bad), bad);
}

TEST_CASE("mil: what other tools write") {
  const Graph g = mil::parse(R"(program(1.0)
    [buildInfo = dict<tensor<string, []>, tensor<string, []>>({{"coremlc-version", "3404.16.1"}})]
    {  // a comment
      func main<ios16>(tensor<fp32, [1, 6, 4]> x) [FlexibleShape = dict<string, string>({})] {
        tensor<int32, []> axis = const()[name = tensor<string, []>("axis"), val = tensor<int32, []>(-2)];
        tensor<int32, [2]> sizes = const()[name = tensor<string, []>("sizes"), val = tensor<int32, [2]>([2, 4])];
        tensor<fp32, [1, 2, 4]> a, tensor<fp32, [1, 4, 4]> b = split(axis = axis, split_sizes = sizes, x = x);
        tensor<fp32, [4]> gamma = const()[name = tensor<string, []>("norm.weight"), val = tensor<fp32, [4]>(
          BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))];
        /* no label */ tensor<fp32, [1, 2, 4]> c = mul(x = a, y = gamma);
        tensor<fp32, [1, 2, 2]> d = slice_by_size(x = c, begin = tensor<int32, [3]>([0, 0, 1]),
                                                  size = tensor<int32, [3]>([1, -1, 2]));
        tensor<fp32, [1, 2, 2]> e = add(x = d, y = fp32(-0x1.8p-1));
        tensor<fp32, [2, 2]> y = squeeze(x = e, axes = tensor<int32, [1]>([0]));
        tensor<fp32, [1, 4]> z = reduce_sum(x = b, axes = tensor<int32, [1]>([1]), keep_dims = bool(false));
      } -> (y, z);
    })");
  verify(g);
  CHECK(g.find("norm.weight").has_value());
  CHECK(g.outputs()[0].name == "y");
  CHECK(g.node(g.outputs()[1].node).type == TensorType{DType::fp32, {1, 4}});
  CHECK(mil::emit(mil::parse(mil::emit(g))) == mil::emit(g));
}

TEST_CASE("mil: scalars, lists, infinities") {
  const Graph g = mil::parse(
      wrapped("tensor<fp16, [2, 3]> a = add(x = x, y = tensor<fp16, [2, 3]>([[1, 2, -3.5], [inf, -inf, "
              "nan]])); tensor<fp16, [2, 3]> y = mul(x = a, y = tensor<fp16, [2, 3]>([1, 2, 3, 4, 5, "
              "0x1.8p-2]));"));
  const Tensor a = g.node(g.node(*g.find("a")).inputs[1]).value;
  CHECK(a.at(2) == -3.5);
  CHECK(a.at(4) == -std::numeric_limits<double>::infinity());
  CHECK(std::isnan(a.at(5)));
  CHECK(mil::emit(mil::parse(mil::emit(g))) == mil::emit(g));
  CHECK(mil::diff(g, mil::parse(mil::emit(g))).empty());
}

TEST_CASE("mil: one function of several") {
  constexpr std::string_view two =
      "program(1.3) { func a<ios18>(fp16 x) { fp16 y = relu(x = x); } -> (y); func b<ios18>(fp16 x) { fp16 y "
      "= tanh(x = x); } "
      "-> (y); }";
  CHECK(mil::parse(two, "b").name() == "b");
  CHECK(problem(two).find("choose one of a, b") != std::string::npos);
  CHECK(problem(two, "c").find("no function 'c'") != std::string::npos);
  CHECK(!problem("program(1.3) { }").empty());
}

TEST_CASE("mil: each fault is named, with its place") {
  const std::pair<std::string, std::string> faults[] = {
      {"program(2.0) {}", "line 1, column 9: program version 2.0"},
      {relu_of("x = z"), "'z' is not defined before"},
      {relu_of("x = y"), "'y' is not defined before"},
      {relu_of("z = x"), "no argument 'z'"},
      {relu_of(""), "argument x is missing"},
      {relu_of("x = x, x = x"), "x is given twice"},
      {relu_of("x = (x, x)"), "x is a tuple"},
      {relu_of("x = fp16(1)"), "declared tensor<fp16, [2, 3]>, the op gives fp16"},
      {relu_of("x = string(\"a\")"), "a tensor of string"},
      {relu_of("x = int8(1)"), "a tensor of int8"},
      {relu_of("x = int8(128)"), "fits int8"},
      {relu_of("x = int32(2147483648)"), "fits int32"},
      {relu_of("x = fp16(65520)"), "does not fit fp16"},
      {relu_of("x = fp32(1e999)"), "a number expected"},
      {relu_of("x = quux(1)"), "unknown type 'quux'"},
      {relu_of("x = tensor<fp16, [3]>([1, 2])"), "2 elements"},
      {relu_of("x = tensor<fp16, [2, 2]>([[1], [2, 3, 4], [5]])"), "3 elements along an axis of size 2"},
      {relu_of("x = tensor<fp16, [4611686018427387904, 4]>([])"), "0 elements"},
      {relu_of("x = tensor<fp16, [0]>([])"), "at least 1"},
      {relu_of("x = tensor<fp16, [?]>([1])"), "a fixed size expected"},
      {relu_of("x = tensor<fp16, [99999999999999999999]>([1])"), "a fixed size expected"},
      {relu_of("x = tensor<fp16, [1, 1, 1, 1, 1, 1]>([1])"), "6 axes"},
      {relu_of("x = tensor<fp16, [2]>([1, [2]])"), "a number expected"},
      {relu_of("x = fp16(BLOBFILE(path = string(\"w\"), offset = uint64(64)))"), "BLOBFILE outside const"},
      {relu_of("x = \"a"), "a string that does not end"},
      {relu_of("x = \x01"), "code 1"},
      {wrapped("tensor<fp16, [2, 3]> y = rlu(x = x);"), "unknown op 'rlu'"},
      {wrapped("tensor<fp16, [2, 3]> y = weight(x = x);"), "unknown op 'weight'"},
      {wrapped("tensor<fp16, [2, 3]> y = rms_norm(x = x);"), "axes is missing"},
      {wrapped("tensor<fp16, [2, 3]> y = rms_norm(x = x, axes = tensor<int32, [1]>([1]));"),
       "not an op of MIL"},
      {wrapped("tensor<fp16, [2, 3]> y = softmax(x = x, axis = bool(true));"),
       "axis must be an integer, not bool"},
      {wrapped("tensor<fp16, [2, 3]> y = softmax(x = x, axis = x);"), "axis must be a constant"},
      {wrapped("tensor<fp16, [2, 3]> y = softmax(x = x, axis = int32(2));"), "line 1, column 84: softmax"},
      {wrapped("tensor<fp16, [2, 3]> y = cond(x = x) { };"), "a block of its own"},
      {wrapped("tensor<fp16, [2, 3]> x = relu(x = x);"), "'x' is defined twice"},
      {wrapped("tensor<fp16, [1]> y = const()[val = tensor<fp16, [2]>([1, 2])];"),
       "its value is tensor<fp16, [2]>"},
      {wrapped("fp16 y = const();"), "a val attribute"},
      {wrapped("tensor<fp16, [1, 3]> y, tensor<fp16, [1, 3]> z = relu(x = x);"), "one result, 2 declared"},
      {wrapped("tensor<fp16, [1, 3]> y = split(x = x, num_splits = int32(2), axis = int32(0));"),
       "2 pieces for 1 results"},
      {wrapped("tensor<fp16, [2, 3]> z = relu(x = x);"), "'y' is not defined before"},
      {wrapped("tensor<fp16, [2, 3]> y = relu(x = x)[a = ((((];"), "closes nothing"},
      {"program(1.0) { func main<ios16>(fp16 x) { fp16 y = relu(x = x)[a = " + std::string(100000, '('),
       "does not end"},
      {relu_of("x = tensor<fp16, [1]>(" + std::string(100000, '[')), "a number expected"},
      {wrapped("") + "}", "the end of the text expected"},
      {"program(1.0) { func main<ios16>(fp16 x, fp16 x) { } -> (x); }", "input 'x'"},
      {"program(1.0) { func main<ios16>(fp16 x) { } -> (); }", "returns nothing"},
  };
  for (const auto& [text, expected] : faults)
    CHECK_MESSAGE(problem(text).find(expected) != std::string::npos, "expected '", expected, "' in '",
                  problem(text), "'");
}

TEST_CASE("mil: no prefix of a program is a program") {
  const std::string text = mil::emit(sample());
  for (std::size_t length = 0; length + 2 < text.size(); ++length)
    CHECK(!problem(text.substr(0, length)).empty());
}

TEST_CASE("mil: a program with any byte changed is parsed or refused") {
  const std::string text = mil::emit(sample());
  std::mt19937 random(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = static_cast<char>(random());
    try {
      const std::string again = mil::emit(mil::parse(changed));
      CHECK(mil::emit(mil::parse(again)) == again);
    } catch (const Error& error) {
      CHECK(std::string_view(error.what()).size() > 0);
    }
  }
}

TEST_CASE("mil: differences are told") {
  const auto graph = [](std::string_view op, double scale, std::int64_t axis, std::string_view output) {
    Graph g;
    const Value x = g.input("x", {DType::fp16, {2, 3}});
    const Value y = ops::mul(g.add(op, {x}), g.scalar(DType::fp16, scale));
    g.output(output, ops::softmax(y, axis));
    return g;
  };
  const Graph base = graph("relu", 2, 1, "y");
  CHECK(mil::diff(base, graph("relu", 2, 1, "y")).empty());
  using Lines = std::vector<std::string>;
  CHECK(mil::diff(base, graph("tanh", 2, 1, "y")) ==
        Lines{"output y, x of mul: relu (relu) against tanh (tanh)"});
  CHECK(mil::diff(base, graph("relu", 3, 1, "y")) ==
        Lines{"output y, y of mul: const (const): element 0 is 2 against 3"});
  CHECK(mil::diff(base, graph("relu", 2, 0, "y")) ==
        Lines{"output y: softmax (softmax) has axis 1 against 0"});
  CHECK(mil::diff(base, graph("relu", 2, 1, "z")) ==
        Lines{"output y: only in the first", "output z: only in the second"});
  Graph twice;
  const Value x = twice.input("x", {DType::fp16, {2, 3}});
  twice.output("y", ops::add(ops::relu(x), ops::relu(x)));
  Graph once;
  const Value a = ops::relu(once.input("x", {DType::fp16, {2, 3}}));
  once.output("y", ops::add(a, a));
  CHECK(mil::diff(twice, once) == Lines{"output y, y of add: one node (relu) against several"});
  CHECK(mil::diff(once, twice) == Lines{"output y, y of add: one node (relu) against several"});
}
