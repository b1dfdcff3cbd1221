// Programs whose weights are kept in narrower formats.
#include "orion/device.h"
#include "orion/error.h"
#include "orion/ops.h"

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

using namespace orion;

namespace {

constexpr MatrixFormat formats[] = {MatrixFormat::bf16, MatrixFormat::int8, MatrixFormat::int4};

Tensor waves(const TensorType& type, double pace) {
  Tensor tensor(TensorType{DType::fp32, type.shape});
  float* values = tensor.as<float>().data();
  for (std::int64_t i = 0; i < type.shape.size(); ++i)
    values[i] = static_cast<float>(std::sin(pace * static_cast<double>(i)));
  return convert(tensor, type.dtype);
}

std::unique_ptr<Program> compiled(const Graph& g, const TensorMap& weights, MatrixFormat format) {
  Device& cpu = find_device("cpu");
  return cpu.compile(g, cpu.load_as(weights, format));
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < a.shape().size(); ++i)
    largest = std::max(largest, std::abs(a.at(i) - b.at(i)));
  return largest;
}

// x (rows, 64) -> W^T -> + bias, W (48, 64)
Graph projection(std::int64_t rows) {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {rows, 64}});
  const Value y = ops::matmul(x, g.weight("w", {DType::fp16, {48, 64}}), false, true);
  g.output("y", ops::add(y, g.weight("b", {DType::fp16, {48}})));
  return g;
}

TensorMap projection_weights() {
  return {{"w", waves({DType::fp16, {48, 64}}, 0.7)}, {"b", waves({DType::fp16, {48}}, 0.3)}};
}

}  // namespace

TEST_CASE("weight formats: products are close, what is no matrix is exact") {
  const double tolerance[] = {0.05, 0.2, 3.0};
  for (const std::int64_t rows : {1, 20})
    for (std::size_t i = 0; i < std::size(formats); ++i) {
      INFO("rows " << rows << " " << matrix_format_name(formats[i]));
      Graph g = projection(rows);
      const auto exact = compiled(g, projection_weights(), MatrixFormat::exact);
      const auto narrow = compiled(g, projection_weights(), formats[i]);
      for (const auto* program : {&exact, &narrow}) {
        (*program)->bind("x", waves({DType::fp16, {rows, 64}}, 1.1));
        (*program)->run();
      }
      const double off = largest_difference(exact->buffer("y"), narrow->buffer("y"));
      CHECK(off > 0.0);
      CHECK(off < tolerance[i]);
      CHECK(narrow->weights()->read("b").identical(projection_weights()["b"]));
    }
}

TEST_CASE("weight formats: bits a weight") {
  const std::size_t bytes[] = {64 * 64 * 2, 64 * 64 * 34 / 32, 64 * 64 * 18 / 32};
  for (std::size_t i = 0; i < std::size(formats); ++i) {
    const Graph g = projection(1);
    const std::size_t bias = 48 * 4;
    CHECK(compiled(g, projection_weights(), formats[i])->weights()->bytes() - bias == bytes[i]);
  }
}

TEST_CASE("weight formats: new values are rounded as the old ones were, all or nothing") {
  for (const MatrixFormat format : formats) {
    INFO(matrix_format_name(format));
    const Graph g = projection(3);
    const auto program = compiled(g, projection_weights(), format);
    const Tensor x = waves({DType::fp16, {3, 64}}, 1.1);
    TensorMap changed = projection_weights();
    changed["w"] = waves({DType::fp16, {48, 64}}, 2.3);
    program->weights()->update({{"w", changed["w"]}});
    const auto fresh = compiled(g, changed, format);
    for (const auto* p : {&program, &fresh}) {
      (*p)->bind("x", x);
      (*p)->run();
    }
    CHECK(program->buffer("y").identical(fresh->buffer("y")));
    CHECK(program->weights()->read("w").identical(fresh->weights()->read("w")));
    CHECK(largest_difference(program->weights()->read("w"), changed["w"]) < 0.1);
  }
}

TEST_CASE("weight formats: levels need finite values") {
  const Graph g = projection(1);
  TensorMap weights = projection_weights();
  const auto program = compiled(g, weights, MatrixFormat::int8);
  const Tensor before = program->weights()->read("w");
  weights["w"] = waves({DType::fp32, {48, 64}}, 0.7);
  weights["w"].as<float>()[70] = std::numeric_limits<float>::quiet_NaN();
  constexpr std::string_view message =
      "weight 'w': element 70 is nan, which int8 cannot hold; use fp32, fp16 or bf16";
  CHECK_THROWS_WITH_AS(compiled(g, weights, MatrixFormat::int8), message.data(), Error);
  CHECK_THROWS_WITH_AS(
      program->weights()->update({{"b", waves({DType::fp16, {48}}, 5.0)}, {"w", weights["w"]}}),
      message.data(), Error);
  CHECK(program->weights()->read("w").identical(before));
  CHECK(program->weights()->read("b").identical(projection_weights()["b"]));
}

TEST_CASE("weight formats: a tied embedding is held once, and never in 4 bits") {
  for (const MatrixFormat format : formats) {
    Graph g;
    const Value ids = g.input("ids", {DType::int32, {2}});
    const Value table = g.weight("wte", {DType::fp16, {50, 64}});
    const Value rows = ops::gather(table, ids);
    g.output("rows", ops::cast(rows, "fp32"));
    g.output("logits", ops::matmul(rows, table, false, true));
    const Tensor wte = waves({DType::fp16, {50, 64}}, 0.9);
    const auto program = compiled(g, {{"wte", wte}}, format);
    CHECK(program->weights()->bytes() == (format == MatrixFormat::bf16 ? 64 * 64 * 2 : 64 * 64 * 34 / 32));
    program->buffer("ids").as<std::int32_t>()[0] = 49;
    program->buffer("ids").as<std::int32_t>()[1] = 7;
    program->run();
    const Tensor kept = program->weights()->read("wte");
    for (std::int64_t i = 0; i < 64; ++i) {
      CHECK(program->buffer("rows").at(i) == doctest::Approx(kept.at(49 * 64 + i)).epsilon(1e-3));
      CHECK(std::abs(program->buffer("rows").at(64 + i) - wte.at(7 * 64 + i)) < 0.01);
    }
  }
}

TEST_CASE("weight formats: matrices given at run time are multiplied in bf16 only") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {9, 33}});
  g.output("y", ops::matmul(x, g.input("w", {DType::fp32, {33, 20}})));
  Tensor results[4];
  for (const MatrixFormat format : {MatrixFormat::exact, MatrixFormat::bf16, MatrixFormat::int8}) {
    const auto program = compiled(g, {}, format);
    program->bind("x", waves({DType::fp32, {9, 33}}, 1.1));
    program->bind("w", waves({DType::fp32, {33, 20}}, 0.4));
    program->run();
    results[static_cast<std::size_t>(format)] = program->buffer("y").clone();
  }
  CHECK(results[0].identical(results[2]));
  CHECK_FALSE(results[0].identical(results[1]));
  CHECK(largest_difference(results[0], results[1]) < 0.05);
}
