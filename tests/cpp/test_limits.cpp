// The table of limits, the profiles, and what programs are seen to cross.
#include "ane/checks.h"
#include "orion/ane.h"
#include "orion/error.h"
#include "orion/mil.h"
#include "orion/ops.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

namespace orion::ane {
namespace {

// A profile in which one limit holds, with the numbers of `strict`.
Profile only(std::string_view id) {
  Profile profile = find_profile("strict");
  profile.name = "only";
  profile.limits = {std::string(id)};
  return profile;
}

std::string func(std::string_view inputs, std::string_view body, std::string_view outputs = "z") {
  return str("program(1.3)\n{\n    func main<ios18>(", inputs, ") {\n", body, "        } -> (", outputs,
             ");\n}\n");
}

constexpr std::string_view x_1_64_1_32 = "tensor<fp16, [1, 64, 1, 32]> x_in";

std::string unary(std::string_view call) {
  return func(x_1_64_1_32, str("tensor<fp16, [1, 64, 1, 32]> z = ", call, ";\n"));
}

std::string named(std::string_view type, std::string_view name, std::string_view value) {
  return str(type, ' ', name, " = const()[name = string(\"", name, "\"), val = ", type, '(', value, ")];\n");
}

std::string blob(std::string_view name, std::string_view sizes, std::uint64_t offset = 64,
                 std::string_view file = "weight.bin") {
  const std::string type = str("tensor<fp16, [", sizes, "]>");
  return named(
      type, name,
      str("BLOBFILE(path = string(\"@model_path/weights/", file, "\"), offset = uint64(", offset, "))"));
}

std::string conv(std::string_view weight_sizes, std::int64_t in, std::int64_t out,
                 std::string_view more = "") {
  return func(str("tensor<fp16, [1, ", in, ", 1, 32]> x_in"),
              str(blob("w", weight_sizes), blob("b", "64", 8320), "tensor<fp16, [1, ", out,
                  ", 1, 32]> z = conv(x = x_in, weight = w", more, ");\n"));
}

std::string matmul(std::string_view x, std::string_view y, std::string_view flags) {
  return func("tensor<fp16, [1, 1, 32, 64]> a_in, tensor<fp16, [1, 1, 64, 32]> b_in",
              str(named("bool", "no", "false"), named("bool", "yes", "true"), blob("w", "64, 32"),
                  "tensor<fp16, [1, 1, 32, 32]> z = matmul(x = ", x, ", y = ", y, flags, ");\n"));
}

std::string concat(std::string_view arguments) {
  return func(x_1_64_1_32,
              str(named("int32", "axis", "1"), named("bool", "interleave", "false"),
                  "tensor<fp16, [1, 128, 1, 32]> z = concat(values = (x_in, x_in), ", arguments, ");\n"));
}

// As many 1x1 convolutions as there are weights, one after the other.
std::string chain(int weights, std::string_view last) {
  std::string body;
  std::string from = "x_in";
  for (int i = 0; i < weights; ++i) {
    body += blob(str("w", i), "64, 64, 1, 1", 64 + 8256 * static_cast<std::uint64_t>(i));
    body += str("tensor<fp16, [1, 64, 1, 32]> c", i, " = conv(x = ", from, ", weight = w", i, ");\n");
    from = str("c", i);
  }
  return func(x_1_64_1_32, str(body, "tensor<fp16, [1, 64, 1, 32]> z = ", last, "(x = ", from,
                               last == "relu" ? "" : ", y = fp16(2)", ");\n"));
}

std::string softmax(std::int64_t size) {
  const std::string type = str("tensor<fp16, [1, ", size, ", 1, 32]>");
  return func(type + " x_in", str(type, " z = softmax(x = x_in, axis = int32(1));\n"));
}

std::string relu(std::string_view type) {
  return func(str(type, " x_in"), str(type, " z = relu(x = x_in);\n"));
}

std::string attention(std::string_view mask) {
  constexpr std::string_view type = "tensor<fp16, [1, 2, 32, 32]>";
  return func(
      str(type, " q_in"),
      str(type, " z = scaled_dot_product_attention(query = q_in, key = q_in, value = q_in", mask, ");\n"));
}

std::string two_inputs(std::string_view x, std::string_view y) {
  return func(str(x, " x_in, ", y, " y_in"), str(x, " z = mul(x = x_in, y = y_in);\n"));
}

std::string two_outputs(std::string_view sizes, std::string_view sum) {
  return func(
      x_1_64_1_32,
      str("tensor<fp16, [1, 64, 1, 32]> a = relu(x = x_in);\ntensor<fp16, [", sizes, "]> b = ", sum, ";\n"),
      "a, b");
}

std::string reduced_times(std::string_view factor) {
  return func(x_1_64_1_32, str("tensor<fp16, [1, 1, 1, 32]> s = reduce_sum(x = x_in, axes = tensor<int32, "
                               "[1]>([1]), keep_dims = bool(true));\n"
                               "tensor<fp16, [1, 1, 1, 32]> z = mul(x = s, y = fp16(",
                               factor, "));\n"));
}

std::string layer_norm(std::string_view epsilon) {
  return func(x_1_64_1_32,
              str(blob("g", "64"), named("tensor<int32, [1]>", "axes", "[1]"),
                  "tensor<fp16, [1, 64, 1, 32]> z = layer_norm(x = x_in, axes = axes, gamma = g, epsilon = ",
                  epsilon, ");\n"));
}

std::string many_outputs(std::string_view returned) {
  return func(
      x_1_64_1_32,
      "tensor<fp16, [1, 64, 1, 32]> a = relu(x = x_in);\ntensor<fp16, [1, 64, 1, 32]> b = tanh(x = x_in);\n"
      "tensor<fp16, [1, 64, 1, 32]> c_out = exp(x = x_in);\n",
      returned);
}

std::string two_weights(std::string_view second_file) {
  return func(x_1_64_1_32, str(blob("w", "64, 64, 1, 1"), blob("v", "64, 64, 1, 1", 8320, second_file),
                               "tensor<fp16, [1, 64, 1, 32]> a = conv(x = x_in, weight = w);\n"
                               "tensor<fp16, [1, 64, 1, 32]> z = conv(x = a, weight = v);\n"));
}

std::string weight_at(std::uint64_t offset) {
  return func(x_1_64_1_32, str(blob("w", "64, 64, 1, 1", offset),
                               "tensor<fp16, [1, 64, 1, 32]> z = conv(x = x_in, weight = w);\n"));
}

std::string gather() {
  return func(x_1_64_1_32,
              "tensor<fp16, [1, 2, 1, 32]> z = gather(x = x_in, indices = tensor<int32, [2]>([0, 1]), axis = "
              "int32(1));\n");
}

std::string runtime_weight() {
  return func(str(x_1_64_1_32, ", tensor<fp16, [64, 64, 1, 1]> w_in"),
              "tensor<fp16, [1, 64, 1, 32]> z = conv(x = x_in, weight = w_in);\n");
}

std::string quantized(std::string_view scale) {
  return func(str(x_1_64_1_32, ", fp16 s_in"),
              str(named("fp16", "s", "0x1p-7"),
                  "tensor<int8, [1, 64, 1, 32]> q = quantize(input = x_in, scale = ", scale,
                  ");\ntensor<fp16, [1, 64, 1, 32]> z = relu(x = x_in);\n"));
}

struct Case {
  std::string_view limit;
  std::string crosses;
  std::string keeps;
};

const std::string plain = unary("relu(x = x_in)");

std::vector<Case> cases() {
  constexpr std::string_view half = "tensor<fp16, [1, 64, 1, 32]>";
  constexpr std::string_view flags = ", transpose_x = no, transpose_y = no";
  return {
      {"concat-rejected", concat("axis = axis, interleave = interleave"), plain},
      {"concat-arguments-named", concat("axis = int32(1), interleave = interleave"),
       concat("axis = axis, interleave = interleave")},
      {"concat-arguments-named", concat("axis = axis"), plain},
      {"sdpa-mask-ignored", attention(", attn_mask = q_in"), attention("")},
      {"gelu-rejected", unary("gelu(x = x_in, mode = string(\"EXACT\"))"), unary("tanh(x = x_in)")},
      {"matmul-flags-named", matmul("a_in", "b_in", ", transpose_x = bool(false), transpose_y = no"),
       matmul("a_in", "b_in", flags)},
      {"conv-bias-rejected", conv("64, 64, 1, 1", 64, 64, ", bias = b"), conv("64, 64, 1, 1", 64, 64)},
      {"outputs-live", func(x_1_64_1_32, "", "x_in"), plain},
      {"conv-32k-channels", conv("32000, 64, 1, 1", 64, 32000), conv("31999, 64, 1, 1", 64, 31999)},
      {"conv-32k-input-channels", conv("64, 32000, 1, 1", 32000, 64), conv("32000, 64, 1, 1", 64, 32000)},
      {"matmul-slower-than-conv", matmul("a_in", "w", flags), matmul("a_in", "b_in", flags)},
      {"rsqrt-rejected", unary("rsqrt(x = x_in, epsilon = fp16(0x1p-10))"),
       unary("pow(x = x_in, y = fp16(-0.5))")},
      {"reduce-mean-rejected",
       func(x_1_64_1_32,
            "tensor<fp16, [1, 1, 1, 32]> z = reduce_mean(x = x_in, axes = tensor<int32, [1]>([1]), keep_dims "
            "= bool(true));\n"),
       reduced_times("0x1p-6")},
      {"pow-rejected-m1", unary("pow(x = x_in, y = fp16(2))"), plain},
      {"softmax-power-of-two", softmax(48), softmax(64)},
      {"softmax-long-axis", softmax(2049), softmax(2048)},
      {"data-movement-m1", reduced_times("2"), plain},
      {"matmul-constant-m1", matmul("a_in", "w", flags), matmul("a_in", "b_in", flags)},
      {"matmul-transpose-y-slow",
       func("tensor<fp16, [1, 1, 32, 64]> a_in",
            str(named("bool", "yes", "true"),
                "tensor<fp16, [1, 1, 32, 32]> z = matmul(x = a_in, y = a_in, transpose_y = yes);\n")),
       matmul("a_in", "b_in", flags)},
      {"conv-weight-constant", runtime_weight(), conv("64, 64, 1, 1", 64, 64)},
      {"tile-poisons", unary("tile(x = x_in, reps = tensor<int32, [4]>([1, 1, 1, 1]))"), plain},
      {"mul-batch-broadcast", two_inputs("tensor<fp16, [2, 64, 1, 32]>", half),
       two_inputs(half, "tensor<fp16, [1, 64, 1, 1]>")},
      {"sqrt-wrong-m1", unary("sqrt(x = x_in)"), plain},
      {"flat-axis-hangs-m1", relu("tensor<fp16, [1, 16385]>"), relu("tensor<fp16, [16384, 2]>")},
      {"log-epsilon", unary("log(x = x_in)"), unary("log(x = x_in, epsilon = fp16(0x1p-20))")},
      {"layer-norm-epsilon-type", layer_norm("fp32(0x1p-10)"), layer_norm("fp16(0x1p-10)")},
      {"multiply-by-zero", reduced_times("0"), reduced_times("2")},
      {"identity-rejected", unary("identity(x = x_in)"), plain},
      {"ops-without-engine", gather(), plain},
      {"ops-without-engine", unary("cumsum(x = x_in)"), plain},
      {"compressed-constants-rejected", unary("constexpr_affine_dequantize()"), plain},
      {"quantize-scale-constant", quantized("s_in"), plain},
      {"uniform-outputs",
       two_outputs("1, 64, 1, 1",
                   "reduce_sum(x = x_in, axes = tensor<int32, [1]>([3]), keep_dims = bool(true))"),
       two_outputs("1, 64, 1, 32", "tanh(x = x_in)")},
      {"minimum-width", relu("tensor<fp16, [1, 64, 1, 31]>"), plain},
      {"uniform-inputs", two_inputs(half, "tensor<fp16, [1, 64, 1, 1]>"), two_inputs(half, half)},
      {"fp32-ports", relu("tensor<fp32, [1, 64, 1, 32]>"), plain},
      {"port-types",
       func("tensor<int32, [1, 64, 1, 32]> x_in",
            "tensor<int32, [1, 64, 1, 32]> z = add(x = x_in, y = x_in);\n"),
       plain},
      {"int8-ports",
       func("tensor<int8, [1, 64, 1, 32]> x_in",
            "tensor<fp16, [1, 64, 1, 32]> z = dequantize(input = x_in, scale = fp16(0x1p-7));\n"),
       plain},
      {"weight-tensors", chain(17, "relu"), chain(16, "relu")},
      {"scalar-takes-slot", chain(16, "mul"), chain(15, "mul")},
      {"one-weight-file", two_weights("other.bin"), two_weights("weight.bin")},
      {"largest-axis", relu("tensor<fp16, [16385]>"), relu("tensor<fp16, [16384]>")},
      {"conv-kernel-width", conv("64, 64, 1, 16", 64, 64, ", pad_type = string(\"same\")"),
       conv("64, 64, 1, 15", 64, 64, ", pad_type = string(\"same\")")},
      {"contraction-length", conv("64, 8193, 1, 1", 8193, 64), conv("64, 8192, 1, 1", 8192, 64)},
      {"program-weights-2gb", conv("32768, 32768, 1, 1", 32768, 32768), conv("64, 64, 1, 1", 64, 64)},
      {"sram-working-set", relu("tensor<fp16, [1, 1024, 8, 1025]>"),
       relu("tensor<fp16, [1, 1024, 8, 1024]>")},
      {"conv-layers", chain(387, "relu"), chain(386, "relu")},
      {"single-input", two_inputs(half, half), plain},
      {"last-output-only", many_outputs("a, b, c_out"), many_outputs("a, b")},
      {"blob-offset", weight_at(128 + 4), weight_at(128)},
  };
}

std::set<std::string_view> checked() {
  std::set<std::string_view> ids;
  for (const NodeCheck& check : node_checks()) ids.insert(check.limit);
  for (const GraphCheck& check : graph_checks()) ids.insert(check.limit);
  for (const TextCheck& check : text_checks()) ids.insert(check.limit);
  return ids;
}

}  // namespace

TEST_CASE("limits: each check has a text that crosses it and one that does not") {
  std::set<std::string_view> tested;
  for (const Case& row : cases()) {
    CAPTURE(row.limit);
    CAPTURE(row.crosses);
    const std::vector<Violation> found = violations(row.crosses, only(row.limit));
    REQUIRE_FALSE(found.empty());
    CHECK(found.front().limit == &limit(row.limit));
    CHECK_FALSE(found.front().where.empty());
    CHECK(violations(row.keeps, only(row.limit)).empty());
    tested.insert(row.limit);
  }
  CHECK(tested == checked());
}

TEST_CASE("limits: the table is complete and its ids are unique") {
  std::set<std::string_view> ids;
  std::set<int> paper;
  for (const Limit& row : all_limits()) {
    CAPTURE(row.id);
    CHECK(ids.insert(row.id).second);
    CHECK(&limit(row.id) == &row);
    for (const std::string_view text : {row.rule, row.symptom, row.action, row.where, row.evidence})
      CHECK_FALSE(text.empty());
    if (row.paper != 0) CHECK(paper.insert(row.paper).second);
  }
  std::set<int> all;
  for (int number = 1; number <= 20; ++number) all.insert(number);
  CHECK(paper == all);
  for (const std::string_view id : checked()) CHECK(ids.contains(id));
}

TEST_CASE("limits: an unknown id is answered with the nearest one") {
  CHECK_THROWS_WITH_AS(limit("concat-reject"), "unknown limit 'concat-reject' (nearest: concat-rejected)",
                       Error);
}

TEST_CASE("profiles: known limits only, each once; strict is the union") {
  std::set<std::string> united;
  for (const Profile& profile : all_profiles()) {
    CAPTURE(profile.name);
    const std::set<std::string> ids(profile.limits.begin(), profile.limits.end());
    CHECK(ids.size() == profile.limits.size());
    for (const std::string& id : ids) CHECK(limit(id).id == id);
    if (profile.name != "strict") united.insert(ids.begin(), ids.end());
  }
  const Profile& strict = find_profile("strict");
  CHECK(std::set<std::string>(strict.limits.begin(), strict.limits.end()) == united);
}

TEST_CASE("profiles: no number of strict is wider than another profile's") {
  const Profile& strict = find_profile("strict");
  const auto narrower = [](std::int64_t a, std::int64_t b) { return b == 0 || (a != 0 && a <= b); };
  for (const Profile& profile : all_profiles()) {
    CAPTURE(profile.name);
    CHECK(strict.minimum_surface >= profile.minimum_surface);
    CHECK(strict.minimum_width >= profile.minimum_width);
    CHECK(narrower(strict.weights_per_program, profile.weights_per_program));
    CHECK(narrower(strict.weight_files_per_program, profile.weight_files_per_program));
    CHECK(strict.compile_budget <= profile.compile_budget);
    CHECK(strict.loaded_programs <= profile.loaded_programs);
    CHECK(strict.largest_axis <= profile.largest_axis);
    CHECK(strict.sram_bytes <= profile.sram_bytes);
    CHECK((!strict.reload_reads_files || profile.reload_reads_files));
  }
}

TEST_CASE("profiles: a reload reads files in the paper only") {
  for (const Profile& profile : all_profiles()) {
    CHECK(profile.reload_reads_files == (profile.name == "paper-m4-macos15"));
    CHECK(profile.has("reload-ignores-files") != profile.reload_reads_files);
  }
}

TEST_CASE("profiles: a measured one is known by its name") {
  Profile measured = find_profile("macos26");
  measured.name = "measured-h16g";
  measured.minimum_width = 1;
  const Profile& added = add_profile(measured);
  CHECK(&find_profile("measured-h16g") == &added);
  CHECK(&add_profile(measured) == &added);
  measured.minimum_width = 2;
  CHECK_THROWS_WITH_AS(add_profile(measured),
                       "profile 'measured-h16g' exists and differs: give the measured one another name",
                       Error);
  measured.name = "other";
  measured.limits = {"no-such-limit"};
  CHECK_THROWS_AS(add_profile(measured), Error);
  CHECK_THROWS_AS(find_profile("other"), Error);
}

TEST_CASE("verify_ane names the limit, the place and the remedy") {
  Graph graph;
  const Value x = graph.input("x_in", {DType::fp16, {1, 64, 1, 32}});
  graph.output("z", ops::concat({x, x}, 1));
  CHECK_THROWS_WITH_AS(
      verify_ane(graph, find_profile("paper-m4-macos15")),
      "concat-rejected (paper-m4-macos15): concat 'z' of fp16 (1, 128, 1, 32). A program contains no "
      "concat. Give the parts as outputs of their own, or slice a wider product.",
      Error);
  verify_ane(graph, find_profile("macos26"));
}

TEST_CASE("verify_ane passes over what is only slow") {
  Graph graph;
  const Value x = graph.input("x_in", {DType::fp16, {1, 1, 32, 64}});
  graph.output("z", ops::matmul(x, graph.weight("w", {DType::fp16, {64, 32}})));
  const std::vector<Violation> found = violations(graph, find_profile("macos26"));
  REQUIRE(found.size() == 1);
  CHECK(found.front().limit->id == "matmul-slower-than-conv");
  verify_ane(graph, find_profile("macos26"));
}

TEST_CASE("violations looks at the graph as MIL would hold it") {
  Graph graph;  // MIL has no rms_norm: its expansion is what counts
  const Value x = graph.input("x_in", {DType::fp16, {1, 64, 1, 32}});
  graph.output("z", ops::rms_norm(x, {1}));
  std::set<std::string_view> ids;
  for (const Violation& violation : violations(graph, find_profile("strict")))
    ids.insert(violation.limit->id);
  CHECK(ids.contains("rsqrt-rejected"));
  std::set<std::string_view> of_text;
  for (const Violation& violation : violations(mil::emit(graph), find_profile("strict")))
    of_text.insert(violation.limit->id);
  CHECK(of_text == ids);
}

TEST_CASE("violations of a text with an unknown op that no limit names is an error") {
  CHECK_THROWS_AS(violations(unary("frobnicate(x = x_in)"), find_profile("strict")), Error);
}

}  // namespace orion::ane
