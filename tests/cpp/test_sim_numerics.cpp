// How the simulated engine computes, rule by rule.
#include "base/f16.h"
#include "sim/sums.h"
#include "sim_bench.h"

#include <cmath>
#include <limits>

using namespace orion;
using namespace sim_bench;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Rows are packed, so that a test's tensors are its surfaces.
Bench engine_with(std::vector<std::string> limits) {
  std::string name = "numerics";
  for (const std::string& limit : limits) name += "-" + limit;
  ane::Profile profile = profile_with(name, std::move(limits));
  profile.row_alignment = 1;
  return Bench(profile);
}

// Row x (1, K) times column y (K, 1).
double dot(std::vector<std::string> limits, std::initializer_list<double> x,
           std::initializer_list<double> y) {
  const auto k = static_cast<std::int64_t>(x.size());
  Graph g;
  const Value a = g.input("a", {DType::fp16, {1, k}});
  const Value b = g.input("b", {DType::fp16, {k, 1}});
  g.output("y", ops::matmul(a, b));
  return engine_with(std::move(limits)).run(g, {halves({1, k}, x), halves({k, 1}, y)}).at(0);
}

// What an op makes of x, and of y if given.
template <class Op>
std::vector<double> of(std::vector<std::string> limits, std::initializer_list<double> x, Op op) {
  const Shape shape{static_cast<std::int64_t>(x.size())};
  Graph g;
  g.output("y", op(g.input("x", {DType::fp16, shape})));
  return values_of(engine_with(std::move(limits)).run(g, {halves(shape, x)}));
}

Value constant_like(Value x, double value) {
  return x.graph->scalar(DType::fp16, value);
}

Tensor small_integers(const Shape& shape, std::uint32_t seed) {
  const Tensor tensor(TensorType{DType::fp32, shape});
  for (float& value : tensor.as<float>()) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<float>(seed >> 29U) - 3.0F;
  }
  return convert(tensor, DType::fp16);
}

// On small integers every rounding is exact, so the engine and the op table must agree to the bit.
void check_exact(const Graph& g, std::initializer_list<Tensor> inputs) {
  TensorMap by_name;
  const Tensor* next = inputs.begin();
  for (const NodeId id : g.inputs()) by_name[g.node(id).name] = *next++;
  const Tensor expected = evaluate(g, by_name).begin()->second;
  CHECK(engine_with({"products-rounded"}).run(g, inputs).identical(expected));
}

// Halves of all kinds: subnormal, large, infinite and NaN ones too.
std::vector<float> any_halves(std::size_t count, std::uint32_t seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525U + 1013904223U;
    value = half_to_float(static_cast<std::uint16_t>(seed >> 16U));
  }
  return values;
}

// One product, as the rules are written.
float product_of(const sim::Arithmetic& arithmetic, float a, float b) {
  const float exact = a * b;
  if (arithmetic.flush_products && std::fabs(exact) < 0x1p-14F) return 0.0F;
  return arithmetic.round_products ? sim::rounded(exact, arithmetic) : exact;
}

}  // namespace

TEST_CASE("sim: products on every instruction set") {
  const std::vector<float> rows = any_halves(2000, 1);
  const std::vector<float> panels = any_halves(2000 * sim::lanes, 2);
  int wrong = 0;
  for (const sim::InstructionSet set : sim::instruction_sets()) {
    for (const bool round : {false, true}) {
      for (const bool away : {false, true}) {
        for (const bool flush : {false, true}) {
          const sim::Arithmetic arithmetic{
              .round_products = round, .ties_away = away, .flush_products = flush};
          const sim::SumOfProducts sum = sim::sum_of_products(arithmetic, true, set);
          for (std::size_t k = 0; k < rows.size(); ++k) {
            sim::Lanes sums;
            const float* panel = panels.data() + k * sim::lanes;
            sum(&rows[k], panel, 1, sums);
            for (std::size_t j = 0; j < sim::lanes; ++j) {
              const float expected = product_of(arithmetic, rows[k], panel[j]);
              if (!(sums[j] == expected || (std::isnan(sums[j]) && std::isnan(expected)))) ++wrong;
            }
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("sim: halves widen and round as they should") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    float wide = 0.0F;
    sim::widen(&half, &wide, 1);
    wrong += std::bit_cast<std::uint32_t>(wide) != std::bit_cast<std::uint32_t>(half_to_float(half));
  }
  const sim::Arithmetic even{};
  for (std::uint32_t bits = 0; bits < 0x7f800000U; bits += 977) {
    const float value = std::bit_cast<float>(bits);
    wrong += sim::rounded(value, even) != round_to_half(value);
    wrong += sim::rounded(-value, even) != -round_to_half(value);
  }
  CHECK(wrong == 0);
}

TEST_CASE("sim: each product rounds to fp16") {
  const double above_one = 1.0 + 0x1p-10;  // its square is 1 + 2^-9 + 2^-20
  CHECK(dot({"products-rounded"}, {above_one, -1.0}, {above_one, 1.0 + 0x1p-9}) == 0.0);
  CHECK(dot({}, {above_one, -1.0}, {above_one, 1.0 + 0x1p-9}) == 0x1p-20);
}

TEST_CASE("sim: products sum wide, reduce_sum narrow") {
  CHECK(dot({"products-rounded"}, {2048.0, 1.0, 1.0}, {1.0, 1.0, 1.0}) == 2050.0);
  const auto sum = [](Value x) { return ops::reduce_sum(x, {0}, true); };
  const auto mean = [](Value x) { return ops::reduce_mean(x, {0}, true); };
  CHECK(of({"reduce-sum-narrow"}, {2048.0, 1.0, 1.0, 1.0}, sum) == std::vector{2048.0});
  CHECK(of({"reduce-sum-narrow"}, {2048.0, 1.0, 1.0, 1.0}, mean) == std::vector{512.0});
  CHECK(of({}, {2048.0, 1.0, 1.0, 1.0}, sum) == std::vector{2052.0});
  CHECK(of({}, {2048.0, 1.0, 1.0, 1.0}, mean) == std::vector{513.0});
}

TEST_CASE("sim: results of products overflow at half of fp16's range") {
  CHECK(dot({"matmul-overflow"}, {181.0}, {180.0}) == 32576.0);
  CHECK(dot({"matmul-overflow"}, {256.0}, {128.0}) == infinity);
  CHECK(dot({"matmul-overflow"}, {256.0}, {-128.0}) == -infinity);
  CHECK(dot({"matmul-overflow"}, {256.0, -1.0}, {128.0, 1024.0}) == 31744.0);  // only the result counts
  CHECK(dot({}, {256.0}, {128.0}) == 32768.0);
  CHECK(dot({}, {256.0}, {256.0}) == infinity);
}

TEST_CASE("sim: a product beyond fp16 is infinite though its sum would not be") {
  CHECK(dot({"products-rounded"}, {256.0, 256.0}, {256.0, -1.0}) == infinity);
  CHECK(std::isnan(dot({"products-rounded"}, {256.0, 256.0}, {256.0, -256.0})));
  CHECK(dot({}, {256.0, 256.0}, {256.0, -256.0}) == 0.0);
}

TEST_CASE("sim: small products vanish") {
  CHECK(dot({"products-rounded", "denormals-flushed"}, {0x1p-8}, {0x1p-7}) == 0.0);
  CHECK(dot({"products-rounded", "denormals-flushed"}, {0x1p-7}, {0x1p-7}) == 0x1p-14);
  CHECK(dot({"products-rounded"}, {0x1p-8}, {0x1p-7}) == 0x1p-15);
  CHECK(dot({"products-rounded"}, {0x1p-13}, {0x1p-13}) == 0.0);
}

TEST_CASE("sim: ties round away from zero where the profile says so") {
  const auto increased = [](Value x) { return ops::add(x, constant_like(x, 1.0)); };
  CHECK(of({}, {2048.0, 2050.0, -2050.0}, increased) == std::vector{2048.0, 2052.0, -2048.0});
  CHECK(of({"ties-away"}, {2048.0, 2050.0, -2050.0}, increased) == std::vector{2050.0, 2052.0, -2050.0});
  const auto halved = [](Value x) { return ops::mul(x, constant_like(x, 0.5)); };
  CHECK(of({}, {0x1p-24, 0x3p-24}, halved) == std::vector{0.0, 0x1p-23});
  CHECK(of({"ties-away"}, {0x1p-24, 0x3p-24}, halved) == std::vector{0x1p-24, 0x1p-23});
}

TEST_CASE("sim: every op rounds its result") {
  // 2049 is no fp16 value: the sum is rounded before 2048 is taken away.
  const auto there_and_back = [](Value x) {
    return ops::sub(ops::add(x, constant_like(x, 1.0)), constant_like(x, 2048.0));
  };
  CHECK(of({}, {2048.0, 1024.0}, there_and_back) == std::vector{0.0, -1023.0});
}

TEST_CASE("sim: comparisons lose NaN") {
  const auto largest = [](Value x) { return ops::maximum(x, constant_like(x, 1.0)); };
  const auto smallest = [](Value x) { return ops::minimum(x, constant_like(x, 1.0)); };
  const auto relu = [](Value x) { return ops::relu(x); };
  CHECK(of({"nan-not-propagated"}, {not_a_number, 2.0}, largest) == std::vector{1.0, 2.0});
  CHECK(of({"nan-not-propagated"}, {not_a_number, 2.0}, smallest) == std::vector{1.0, 1.0});
  CHECK(of({"nan-not-propagated"}, {not_a_number, 2.0}, relu) == std::vector{0.0, 2.0});
  CHECK(std::isnan(of({}, {not_a_number, 2.0}, largest)[0]));
  CHECK(std::isnan(of({}, {not_a_number, 2.0}, relu)[0]));
}

TEST_CASE("sim: attention ignores its mask") {
  Graph g;
  const Value q = g.input("q", {DType::fp16, {1, 1, 1}});
  const Value k = g.input("k", {DType::fp16, {1, 2, 1}});
  const Value mask = g.constant(halves({1, 2}, {0.0, -10000.0}));
  g.output("y", ops::scaled_dot_product_attention(q, k, k, mask));
  const Tensor keys = halves({1, 2, 1}, {2.0, 4.0});
  const Tensor query = halves({1, 1, 1}, {0.0});
  // In alphabetical order: k, q.
  CHECK(engine_with({"sdpa-mask-ignored"}).run(g, {keys, query}).at(0) == 3.0);
  CHECK(engine_with({}).run(g, {keys, query}).at(0) == 2.0);
}

TEST_CASE("sim: softmax of a long axis is normalised tile by tile") {
  Graph g;
  g.output("y", ops::softmax(g.input("x", {DType::fp16, {1, 4096}})));
  const Tensor zeros(TensorType{DType::fp16, {1, 4096}});
  CHECK(engine_with({"softmax-long-axis"}).run(g, {zeros}).at(4095) == 1.0 / 2048);
  CHECK(engine_with({}).run(g, {zeros}).at(4095) == 1.0 / 4096);
}

TEST_CASE("sim: a conv ignores a weight that is an input") {
  Graph g;
  const Value w = g.input("w", {DType::fp16, {1, 1, 1, 1}});
  g.output("y", ops::conv(g.input("x", {DType::fp16, {1, 1, 1, 2}}), w));
  const Tensor weight = halves({1, 1, 1, 1}, {2.0});
  const Tensor x = halves({1, 1, 1, 2}, {1.0, 3.0});
  CHECK(values_of(engine_with({"conv-weight-constant"}).run(g, {weight, x})) == std::vector{0.0, 0.0});
  CHECK(values_of(engine_with({}).run(g, {weight, x})) == std::vector{2.0, 6.0});
}

TEST_CASE("sim: a mul that stretches over the batch is right for the first only") {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {2, 1, 1, 1}});
  g.output("y", ops::mul(x, g.input("z", {DType::fp16, {1, 1, 1, 1}})));
  const Tensor both = halves({2, 1, 1, 1}, {2.0, 3.0});
  const Tensor five = halves({1, 1, 1, 1}, {5.0});
  CHECK(values_of(engine_with({"mul-batch-broadcast"}).run(g, {both, five})) == std::vector{10.0, 0.0});
  CHECK(values_of(engine_with({}).run(g, {both, five})) == std::vector{10.0, 15.0});
}

TEST_CASE("sim: matmul of all forms") {
  for (const bool tx : {false, true}) {
    for (const bool ty : {false, true}) {
      Graph g;
      const Shape x = tx ? Shape{3, 1, 5, 2} : Shape{3, 1, 2, 5};
      const Shape y = ty ? Shape{4, 33, 5} : Shape{4, 5, 33};
      const Value left = g.input("x", {DType::fp16, x});
      g.output("z", ops::matmul(left, g.input("y", {DType::fp16, y}), tx, ty));
      check_exact(g, {small_integers(x, 1), small_integers(y, 2)});
    }
  }
}

TEST_CASE("sim: conv of all forms") {
  struct Case {
    Shape x, weight;
    AttrMap attrs;
  };
  using Ints = std::vector<std::int64_t>;
  const std::vector<Case> cases = {
      {{2, 3, 1, 7}, {4, 3, 1, 1}, {}},
      {{1, 4, 9}, {6, 2, 3}, {{"groups", std::int64_t{2}}, {"strides", Ints{2}}}},
      {{1, 2, 5, 6}, {3, 2, 3, 2}, {{"pad_type", std::string("same")}, {"dilations", Ints{1, 2}}}},
      {{1, 2, 3, 4, 5},
       {2, 2, 2, 3, 2},
       {{"pad_type", std::string("custom")}, {"pad", Ints{1, 0, 2, 1, 0, 3}}}},
      {{1, 2, 1, 8}, {2, 2, 1, 1}, {{"strides", Ints{1, 3}}}},
  };
  for (const Case& test : cases) {
    Graph g;
    const Value w = g.constant(small_integers(test.weight, 3));
    g.output("y", g.add("conv", {g.input("x", {DType::fp16, test.x}), w}, test.attrs));
    check_exact(g, {small_integers(test.x, 4)});
  }
}

TEST_CASE("sim: fp32 inputs and outputs are halves inside") {
  Graph g;
  g.output("y", ops::neg(g.input("x", {DType::fp32, {2}})));
  const Tensor x(TensorType{DType::fp32, {2}});
  x.as<float>()[0] = 1.0F + 0x1p-20F;
  x.as<float>()[1] = 70000.0F;
  CHECK(values_of(engine_with({}).run(g, {x})) == std::vector{-1.0, -infinity});
}
