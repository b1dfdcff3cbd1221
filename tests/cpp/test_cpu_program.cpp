// Programs on the CPU device: fusion, memory, state, weights that change, nothing allocated per run.
#include "cpu/plan.h"
#include "cpu/program.h"
#include "orion/device.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <random>

using namespace orion;

namespace {

std::atomic<std::int64_t> allocations = 0;

}  // namespace

// Counts what the whole test binary allocates, so that a run can be shown to allocate nothing.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace {

std::mt19937 generator(7);

Tensor random(const TensorType& type) {
  Tensor tensor(TensorType{DType::fp32, type.shape});
  std::normal_distribution<float> normal;
  for (float& value : tensor.as<float>()) value = normal(generator) * 0.5F;
  return convert(tensor, type.dtype);
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double largest = 0;
  for (std::int64_t i = 0; i < a.shape().size(); ++i)
    largest = std::max(largest, std::abs(a.at(i) - b.at(i)));
  return largest;
}

std::unique_ptr<Program> compiled(const Graph& g, const TensorMap& weights) {
  Device& cpu = find_device("cpu");
  return cpu.compile(g, cpu.load(weights));
}

// Runs on random inputs and compares with the table's kernels.
void check_against_reference(const Graph& g, const TensorMap& weights, double tolerance) {
  const auto program = compiled(g, weights);
  TensorMap inputs;
  for (const Port& port : program->inputs()) {
    inputs[port.name] = random(port.type);
    program->bind(port.name, inputs[port.name].clone());
  }
  program->run();
  for (const auto& [name, expected] : evaluate(g, inputs, weights)) {
    INFO(name, "\n", program->describe());
    CHECK(largest_difference(program->buffer(name), expected) <= tolerance);
  }
}

// x -> norm -> two projections -> gated product -> projection -> + x, as in a Llama block.
Graph gated_block(DType dtype, TensorMap& weights) {
  Graph g("block");
  const Value x = g.input("x", {dtype, {2, 5, 24}});
  const auto weight = [&](const char* name, const Shape& shape) {
    weights[name] = random({dtype, shape});
    return g.weight(name, {dtype, shape});
  };
  const Value h = ops::rms_norm(x, {-1}, weight("norm", {24}));
  const Value gate = ops::silu(ops::matmul(h, weight("gate", {40, 24}), false, true));
  const Value up = ops::matmul(h, weight("up", {40, 24}), false, true);
  const Value down = ops::matmul(ops::mul(gate, up), weight("down", {24, 40}), false, true);
  g.output("y", ops::add(x, down));
  return g;
}

}  // namespace

TEST_CASE("a gated block becomes one norm and three products") {
  TensorMap weights;
  const Graph g = gated_block(DType::fp32, weights);
  const auto program = compiled(g, weights);
  const std::string plan = program->describe();
  CHECK(plan.find("+activation +factor") != std::string::npos);
  CHECK(plan.find("+residual") != std::string::npos);
  CHECK(plan.find("4 steps") != std::string::npos);
  check_against_reference(g, weights, 1e-5);
}

TEST_CASE("fp16 programs keep more precision between steps than fp16, never less") {
  TensorMap weights;
  const Graph g = gated_block(DType::fp16, weights);
  check_against_reference(g, weights, 2e-2);
}

TEST_CASE("bias, activation and residual fuse in that order only") {
  TensorMap weights = {{"w", random({DType::fp32, {6, 8}})}, {"b", random({DType::fp32, {8}})}};
  Graph g;
  const Value x = g.input("x", {DType::fp32, {3, 6}});
  const Value r = g.input("r", {DType::fp32, {3, 8}});
  const Value w = g.weight("w", {DType::fp32, {6, 8}});
  const Value b = g.weight("b", {DType::fp32, {8}});
  g.output("fused", ops::add(r, ops::gelu(ops::add(ops::matmul(x, w), b), "TANH_APPROXIMATION")));
  g.output("unfused", ops::mul(ops::gelu(ops::add(ops::add(ops::matmul(x, w), r), b)), r));
  check_against_reference(g, weights, 1e-5);
}

TEST_CASE("a product that is read twice, or is an output, is not swallowed") {
  TensorMap weights = {{"w", random({DType::fp32, {6, 6}})}};
  Graph g;
  const Value x = g.input("x", {DType::fp32, {3, 6}});
  const Value y = ops::matmul(x, g.weight("w", {DType::fp32, {6, 6}}));
  g.output("y", y);
  g.output("z", ops::add(ops::relu(y), y));
  g.output("again", y);
  check_against_reference(g, weights, 1e-5);
}

TEST_CASE("1x1 convolutions run as products, others by the reference") {
  TensorMap weights = {{"w", random({DType::fp32, {8, 6, 1, 1}})},
                       {"k", random({DType::fp32, {4, 8, 3, 1}})}};
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2, 6, 5, 7}});
  const Value bias = g.constant(random({DType::fp32, {1, 8, 1, 1}}));
  const Value y = ops::relu(ops::add(ops::conv(x, g.weight("w", {DType::fp32, {8, 6, 1, 1}})), bias));
  g.output("y", y);
  g.output("z", ops::conv(y, g.weight("k", {DType::fp32, {4, 8, 3, 1}})));
  check_against_reference(g, weights, 1e-4);
}

TEST_CASE("broadcasts of every kind") {
  for (const Shape& shape : {Shape{3, 4, 5}, Shape{4, 5}, Shape{5}, Shape{}, Shape{1, 1, 1}, Shape{3, 1, 1},
                             Shape{3, 4, 1}, Shape{3, 1, 5}, Shape{1, 4, 1}, Shape{4, 1}}) {
    Graph g;
    const Value x = g.input("x", {DType::fp32, {3, 4, 5}});
    const Value y = g.input("y", {DType::fp32, shape});
    g.output("sub", ops::sub(x, y));
    g.output("reversed", ops::sub(y, x));
    CAPTURE(shape);
    check_against_reference(g, {}, 0);
  }
}

TEST_CASE("both operands of a broadcast may stretch") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {3, 1, 5}});
  const Value y = g.input("y", {DType::fp32, {4, 1}});
  g.output("z", ops::mul(x, y));
  check_against_reference(g, {}, 0);
}

TEST_CASE("transposes of every order, and products of transposed operands") {
  for (const std::vector<std::int64_t>& perm :
       {std::vector<std::int64_t>{0, 2, 1, 3}, {3, 2, 1, 0}, {0, 1, 3, 2}, {1, 0, 3, 2}, {2, 3, 0, 1}}) {
    Graph g;
    const Value x = g.input("x", {DType::fp32, {3, 4, 5, 18}});
    g.output("y", ops::transpose(x, perm));
    check_against_reference(g, {}, 0);
  }
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2, 1, 7, 5}});
  const Value y = g.input("y", {DType::fp32, {3, 6, 7}});
  g.output("z", ops::matmul(x, y, true, true));
  check_against_reference(g, {}, 1e-5);
}

TEST_CASE("a tied embedding is held once") {
  TensorMap weights = {{"wte", random({DType::fp16, {50, 16}})}};
  Graph g;
  const Value ids = g.input("ids", {DType::int32, {3}});
  const Value table = g.weight("wte", {DType::fp16, {50, 16}});
  g.output("logits", ops::matmul(ops::gather(table, ids), table, false, true));
  const auto program = compiled(g, weights);
  CHECK(program->weights()->bytes() == 64 * 16 * 2);  // 50 rows in two panels of 32
  const Tensor buffer = program->buffer("ids");
  buffer.as<std::int32_t>()[0] = 49;
  buffer.as<std::int32_t>()[1] = -1;  // MIL: counts from the end
  program->run();
  const Tensor logits = program->buffer("logits");
  CHECK(logits.at(7) == logits.at(50 + 7));
  buffer.as<std::int32_t>()[2] = 50;
  CHECK_THROWS_AS(program->run(), Error);
}

TEST_CASE("a state is updated in place, in fp32 and in fp16") {
  for (const DType dtype : {DType::fp32, DType::fp16}) {
    Graph g;
    const Value cache = g.input("cache", {dtype, {1, 2, 8, 4}});
    const Value update = g.input("update", {dtype, {1, 2, 1, 4}});
    const Value position = g.input("position", {DType::int32, {1}});
    const Value query = g.input("query", {dtype, {1, 2, 1, 4}});
    const Value now = ops::cache_update(cache, update, position);
    g.output("cache", now);
    g.output("y", ops::scaled_dot_product_attention(query, now, now, {}, position));
    const auto program = compiled(g, {});
    CHECK(program->describe().find("reference") == std::string::npos);
    CHECK(program->buffer("cache").data() == program->buffer("cache").data());
    TensorMap inputs = {
        {"cache", random(cache.type())}, {"update", random(update.type())}, {"query", random(query.type())}};
    for (const auto& [name, value] : inputs) program->bind(name, value.clone());
    for (std::int32_t step = 0; step < 8; ++step) {
      const std::int32_t at[] = {step};
      inputs["position"] = Tensor::from_ints(at);
      program->bind("position", inputs["position"]);
      program->run();
      const TensorMap expected = evaluate(g, inputs);
      CHECK(largest_difference(program->buffer("cache"), expected.at("cache")) == 0);
      CHECK(largest_difference(program->buffer("y"), expected.at("y")) < 2e-3);
      inputs["cache"] = expected.at("cache");
    }
    const std::int32_t beyond[] = {8};
    program->bind("position", Tensor::from_ints(beyond));
    CHECK_THROWS_AS(program->run(), Error);
  }
}

TEST_CASE("heads are read where they lie, and copied for who needs them whole") {
  const std::int64_t tokens = 6, heads = 2, size = 4, width = heads * size;
  for (const bool whole : {false, true}) {
    Graph g;
    const Value joined = ops::relu(g.input("x", {DType::fp32, {1, tokens, 3 * width}}));
    const auto part = [&](std::int64_t i) {
      const Value slice = ops::slice_by_index(joined, {0, 0, i * width}, {1, tokens, (i + 1) * width});
      return ops::transpose(ops::reshape(slice, {1, tokens, heads, size}), {0, 2, 1, 3});
    };
    const Value angles = g.input("angles", {DType::fp32, {tokens, size / 2}});
    const Value position = g.input("position", {DType::int32, {1}});
    const auto cache = [&](const std::string& name, Value rows) {
      const Value now = ops::cache_update(g.input(name, {DType::fp32, {1, heads, 9, size}}), rows, position);
      g.output(name, now);
      return now;
    };
    const Value q = ops::rope(part(0), angles, angles), v = part(2);
    const Value y =
        ops::scaled_dot_product_attention(q, cache("keys", part(1)), cache("values", v), {}, position);
    g.output("y", ops::reshape(ops::transpose(y, {0, 2, 1, 3}), {1, tokens, width}));
    if (whole) {
      g.output("v", v);
      g.output("turned", ops::relu(ops::transpose(v, {0, 1, 3, 2})));
    }
    const auto program = compiled(g, {});
    const std::string plan = program->describe();
    INFO(plan);
    CHECK((plan.find("slice_by_index") == std::string::npos) == !whole);
    CHECK((plan.find("transpose") == std::string::npos) == !whole);
    TensorMap inputs;
    for (const Port& port : program->inputs()) {
      inputs[port.name] = port.name == "position" ? Tensor(port.type) : random(port.type);
      program->bind(port.name, inputs[port.name].clone());
    }
    program->run();
    for (const auto& [name, expected] : evaluate(g, inputs))
      CHECK_MESSAGE(largest_difference(program->buffer(name), expected) < 1e-6, name);
  }
}

TEST_CASE("what comes back through slices is joined where they are all there is") {
  for (const bool all : {false, true}) {
    Graph g;
    const auto part = [&](const char* name, std::int64_t size) {
      return g.input(name, {DType::fp32, {3, size}});
    };
    const auto put = [](Value x, std::int64_t before, std::int64_t after) {
      return ops::pad(x, {0, 0, before, after});
    };
    // 0 to 2, 2 to 5 and 5 to 9 of 9, out of order; without the first, zeros are left.
    Value sum = ops::add(put(part("c", 4), 5, 0), put(part("b", 3), 2, 4));
    if (all) sum = ops::add(sum, put(part("a", 2), 0, 7));
    g.output("y", sum);
    check_against_reference(g, {}, 0);
    const std::string plan = compiled(g, {})->describe();
    INFO(plan);
    CHECK((plan.find("pad") == std::string::npos) == all);
    CHECK(plan.find("concat") != std::string::npos);
  }
  Graph g;  // where they overlap, they are added up
  const Value x = g.input("x", {DType::fp32, {3, 4}}), y = g.input("y", {DType::fp32, {3, 4}});
  g.output("sum", ops::add(ops::pad(x, {0, 1, 0, 0}), ops::pad(y, {1, 0, 0, 0})));
  check_against_reference(g, {}, 0);
}

// A slice of a state is taken before the state changes, however late it is used.
TEST_CASE("parts of a state are not read after its update") {
  Graph g;
  const Value cache = g.input("cache", {DType::fp32, {1, 2, 4, 2}});
  const Value row = g.input("row", {DType::fp32, {1, 2, 1, 2}});
  const Value zero = g.constant(Tensor(TensorType{DType::int32, {1}}));
  const Value old = ops::slice_by_index(cache, {0, 0, 0, 0}, {1, 2, 1, 2});
  const Value now = ops::cache_update(cache, row, zero);
  g.output("cache", now);
  g.output("y", ops::scaled_dot_product_attention(old, now, now));
  check_against_reference(g, {}, 1e-6);
}

TEST_CASE("states that are read after their update, or swapped, keep their old values") {
  Graph g;
  const Value a = g.input("a", {DType::fp32, {1, 1, 4, 2}});
  const Value b = g.input("b", {DType::fp32, {1, 1, 4, 2}});
  const Value row = g.input("row", {DType::fp32, {1, 1, 1, 2}});
  const Value zero = g.constant(Tensor(TensorType{DType::int32, {1}}));
  g.output("a", b);
  g.output("b", a);
  g.output("sum", ops::add(ops::cache_update(a, row, zero), a));
  check_against_reference(g, {}, 0);
}

TEST_CASE("run-time products take in what follows, and gradients are added to states where they are") {
  Graph g;
  const auto input = [&](const char* name, const Shape& shape) {
    return g.input(name, {DType::fp32, shape});
  };
  const Value x = input("x", {6, 5}), dy = input("dy", {6, 7}), w = input("w", {5, 7}), b = input("b", {7});
  const std::int32_t rows[] = {8, 0, 3, 3, -1, 8};
  const Value ids = g.constant(Tensor::from_ints(rows));
  const Value table = input("table", {9, 7});
  g.output("y", ops::mul(ops::gelu(ops::add(ops::matmul(x, w), b)), dy));
  g.output("dw", ops::add(input("dw", {5, 7}), ops::matmul(x, dy, true)));
  g.output("db", ops::add(input("db", {7}), ops::reduce_sum(dy, {0})));
  g.output("table", ops::scatter(table, ids, dy, 0, "add"));
  check_against_reference(g, {}, 1e-5);
  const std::string plan = compiled(g, {})->describe();
  INFO(plan);
  CHECK(plan.find("reference") == std::string::npos);
  CHECK(plan.find("5 steps on ") != std::string::npos);
}

TEST_CASE("functions of elements that follow one another become one step") {
  for (const std::int64_t cols : {1, 37, 1031, 5000}) {
    Graph g;
    const TensorType type{DType::fp32, {3, cols}};
    const Value gate = g.input("gate", type), up = g.input("up", type), dh = g.input("dh", type);
    Tensor number(TensorType{DType::fp32, {1}});
    number.as<float>()[0] = 0.5F;
    const Value half = g.constant(number);
    const Value active = ops::silu(gate);
    g.output("d_up", ops::mul(dh, active));
    g.output("d_gate", ops::silu_gradient(gate, ops::mul(ops::mul(dh, up), half)));
    const std::string plan = compiled(g, {})->describe();
    INFO(plan);
    CHECK(plan.find("silu+mul+mul+mul+silu_gradient") != std::string::npos);
    CHECK(plan.find("1 steps on ") != std::string::npos);
    check_against_reference(g, {}, 1e-6);
  }
}

TEST_CASE("a chain of many functions is cut, and what a product reads in its middle is there") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {6, 6}}), w = g.input("w", {DType::fp32, {6, 6}});
  Value y = x;
  for (int i = 0; i < 20; ++i) y = i % 2 == 0 ? ops::tanh(y) : ops::add(y, x);
  const Value before = ops::relu(y);
  const Value after = ops::mul(ops::matmul(before, w), before);
  g.output("y", ops::sub(ops::tanh(after), before));
  g.output("scalar", ops::sigmoid(ops::neg(ops::reduce_sum(after, {0, 1}))));
  check_against_reference(g, {}, 1e-5);
  const std::string plan = compiled(g, {})->describe();
  INFO(plan);
  CHECK(plan.find("tanh+add") != std::string::npos);
}

// It would read the new state, were that written where the old one is.
TEST_CASE("a chain that ends after a state's update reads the old state") {
  Graph g;
  const TensorType type{DType::fp32, {4, 4}};
  const Value s = g.input("s", type), x = g.input("x", type);
  const Value old = ops::tanh(s);
  const Value now = ops::add(s, ops::matmul(x, x));
  g.output("s", now);
  g.output("y", ops::mul(old, now));
  check_against_reference(g, {}, 1e-5);
  const std::string plan = compiled(g, {})->describe();
  INFO(plan);
  CHECK(plan.find("tanh+mul") != std::string::npos);
}

TEST_CASE("gradients of norms take in a sum with what is there before") {
  for (const bool there : {false, true}) {
    Graph g;
    const TensorType type{DType::fp32, {5, 12}};
    const Value x = g.input("x", type), dy = g.input("dy", type),
                gamma = g.input("gamma", {DType::fp32, {12}});
    const Value dx = ops::rms_norm_gradient(x, dy, {-1}, gamma);
    g.output("y", ops::add(there ? dy : ops::softmax(x), dx));
    check_against_reference(g, {}, 1e-5);
    CHECK((compiled(g, {})->describe().find("+residual") != std::string::npos) == there);
  }
}

TEST_CASE("a product that runs after a state's update reads the old state") {
  Graph g;
  const Value s = g.input("s", {DType::fp32, {4, 4}});
  const Value x = g.input("x", {DType::fp32, {4, 4}});
  const Value product = ops::matmul(s, x);
  const Value now = ops::add(s, x);
  g.output("s", now);
  g.output("y", ops::add(product, ops::mul(now, x)));
  check_against_reference(g, {}, 1e-5);
}

TEST_CASE("runs allocate nothing") {
  TensorMap weights;
  const Graph g = gated_block(DType::fp16, weights);
  const auto program = compiled(g, weights);
  program->run();
  const std::int64_t before = allocations;
  for (int i = 0; i < 10; ++i) program->run();
  CHECK(allocations == before);
}

// y = v w for a value v of (rows, width) that is made in some way; maybe v is asked for too.
Graph product_of(std::string_view made_by, std::int64_t width, bool asked_for) {
  const std::int64_t rows = 20;
  Graph g;
  const Value x = g.input("x", {DType::fp32, {rows, width}});
  Value v = x;
  if (made_by == "norm") v = ops::rms_norm(x, {1});
  if (made_by == "product") v = ops::silu(ops::matmul(x, g.weight("u", {DType::fp32, {width, width}})));
  if (made_by == "attention") {
    const Value heads = g.input("heads", {DType::fp32, {1, 2, rows, width / 2}});
    const Value mixed = ops::scaled_dot_product_attention(heads, heads, heads, {}, {}, true);
    v = ops::reshape(ops::transpose(mixed, {0, 2, 1, 3}), {rows, width});
  }
  g.output("y", ops::matmul(v, g.weight("w", {DType::fp32, {width, 8}})));
  if (asked_for) g.output("v", v);
  return g;
}

TEST_CASE("what only products of bfloat16 read takes half the memory and is the same") {
  using namespace orion::cpu;
  const auto arena = [](const Graph& g, const TensorMap& weights, MatrixFormat format) {
    return make_plan(g, std::make_shared<CpuWeights>(weights, format))->arena_bytes;
  };
  for (const std::string_view made_by : {"norm", "product", "attention"}) {
    CAPTURE(made_by);
    const std::int64_t width = 64;
    const TensorMap weights = {{"u", random({DType::fp32, {width, width}})},
                               {"w", random({DType::fp32, {width, 8}})}};
    const Graph g = product_of(made_by, width, false);
    CHECK(arena(g, weights, MatrixFormat::exact) == 20 * width * sizeof(float));
    CHECK(arena(g, weights, MatrixFormat::bf16) == 20 * width * sizeof(std::uint16_t));
    Device& cpu = find_device("cpu");
    const Tensor x = random({DType::fp32, {20, width}});
    const auto y = [&](const Graph& graph) {
      const auto program = cpu.compile(graph, cpu.load_as(weights, MatrixFormat::bf16));
      for (const Port& port : program->inputs()) program->bind(port.name, x.reshaped(port.type.shape));
      program->run();
      return program->buffer("y").clone();
    };
    CHECK(y(g).identical(y(product_of(made_by, width, true))));
  }
  // An odd width has no pairs.
  const TensorMap weights = {{"w", random({DType::fp32, {33, 8}})}};
  CHECK(arena(product_of("norm", 33, false), weights, MatrixFormat::bf16) >= 20 * 33 * sizeof(float));
}

TEST_CASE("programs that take turns hold the memory of one") {
  using namespace orion::cpu;
  const auto memory = std::make_shared<WorkMemory>();
  const auto program = [&](std::int64_t size) {
    Graph g;
    const Value x = g.input("x", {DType::fp32, {size, size}});
    g.output("y", ops::matmul(ops::matmul(x, x), x));
    auto plan = make_plan(g, std::make_shared<CpuWeights>(TensorMap{}, MatrixFormat::exact));
    const std::size_t bytes = plan->arena_bytes + plan->scratch_bytes;
    return std::pair(std::make_unique<CpuProgram>(std::move(plan), shared_pool(), memory), bytes);
  };
  auto [small, small_bytes] = program(8);
  CHECK(memory->bytes() < small_bytes + 128);
  {
    const auto [large, large_bytes] = program(64);
    const auto [other, other_bytes] = program(63);
    REQUIRE(other_bytes > small_bytes);
    const auto holds_one = [&, most = large_bytes] {
      return memory->bytes() >= most && memory->bytes() < most + 128;
    };
    CHECK(holds_one());
    for (CpuProgram* p : {small.get(), large.get(), other.get(), small.get()}) p->run();
    CHECK(holds_one());
    const WorkMemory::Need need(memory, 64);
    {
      const WorkMemory::Loan first(need), second(need);  // at once
      CHECK(first.data() != second.data());
      CHECK(memory->bytes() >= 2 * large_bytes);
    }
  }
  small->run();
  CHECK(memory->bytes() < 2 * (small_bytes + 128));
  small.reset();
  CHECK(memory->bytes() == 0);
}

TEST_CASE("weights change without planning, all or nothing") {
  TensorMap weights;
  const Graph g = gated_block(DType::fp16, weights);
  const auto program = compiled(g, weights);
  const Tensor x = random({DType::fp16, {2, 5, 24}});
  program->bind("x", x);
  program->run();
  const Tensor before = program->buffer("y").clone();

  weights["up"] = random({DType::fp16, {40, 24}});
  weights["norm"] = random({DType::fp16, {24}});
  program->weights()->update({{"up", weights["up"]}, {"norm", weights["norm"]}});
  program->run();
  CHECK(largest_difference(program->buffer("y"), before) > 0);
  const auto fresh = compiled(g, weights);
  fresh->bind("x", x);
  fresh->run();
  CHECK(program->buffer("y").identical(fresh->buffer("y")));
  CHECK(program->weights()->read("up").identical(weights["up"]));

  Tensor huge(TensorType{DType::fp32, {24}});
  huge.as<float>()[3] = 1e6F;
  CHECK_THROWS_WITH_AS(
      program->weights()->update({{"down", random({DType::fp16, {24, 40}})}, {"norm", huge}}),
      "weight 'norm': element 3 is 1e+06, beyond fp16's range; use fp32", Error);
  CHECK(program->weights()->read("down").identical(weights["down"]));
  CHECK_THROWS_AS(program->weights()->update({{"down", random({DType::fp16, {40, 24}})}}), Error);
  CHECK_THROWS_AS(program->weights()->update({{"nothing", huge}}), Error);
}

TEST_CASE("what cannot be compiled is named") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2, 3}});
  const Value w = g.weight("w", {DType::fp32, {3, 4}});
  g.output("y", ops::matmul(x, w));
  CHECK_THROWS_WITH_AS(compiled(g, {}), "no weight 'w' was given: fp32 (3, 4) is needed", Error);
  CHECK_THROWS_WITH_AS(compiled(g, {{"w", random({DType::fp32, {4, 3}})}}),
                       "weight 'w' is fp32 (4, 3), the graph wants fp32 (3, 4)", Error);
  CHECK_THROWS_AS(compiled(Graph(), {}), Error);
  CHECK_THROWS_WITH_AS(find_device("gpu"), "unknown device 'gpu': auto, cpu, ane, sim are known", Error);
  const auto program = compiled(g, {{"w", random({DType::fp32, {3, 4}})}});
  CHECK_THROWS_AS(program->bind("x", random({DType::fp32, {3, 2}})), Error);
  CHECK_THROWS_AS(program->bind("z", random({DType::fp32, {3, 2}})), Error);
}

TEST_CASE("places alive at the same time do not overlap, and memory is reused") {
  using namespace orion::cpu;
  std::mt19937 random_steps(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<Place> places(30);
    std::vector<Step> steps;
    for (Place& place : places) place.bytes = 64 * (1 + random_steps() % 9);
    for (int i = 0; i < 30;) {
      Step step{.writes = i, .in_place = random_steps() % 2 == 0};
      for (int k = 0; k < 2 && i > 0; ++k)
        step.reads.push_back(static_cast<Slot>(random_steps() % static_cast<unsigned>(i)));
      for (++i; i < 30 && random_steps() % 4 == 0; ++i) step.also_writes.push_back(i);
      steps.push_back(step);
    }
    const std::size_t size = lay_out_arena(steps, places);
    std::size_t total = 0;
    for (const Place& place : places) total += place.bytes;
    CHECK(size < total);
    // Replay: each place holds its number until its last reader has seen it.
    std::vector<int> memory(size / 64, -1);
    for (const Step& step : steps) {
      for (const Slot slot : step.reads) {
        const Place& place = places[static_cast<std::size_t>(slot)];
        for (std::size_t byte = place.offset; byte < place.offset + place.bytes; byte += 64)
          REQUIRE(memory[byte / 64] == slot);
      }
      std::vector<Slot> written = step.also_writes;
      written.push_back(step.writes);
      for (const Slot slot : written) {
        const Place& place = places[static_cast<std::size_t>(slot)];
        for (std::size_t byte = place.offset; byte < place.offset + place.bytes; byte += 64)
          memory[byte / 64] = slot;
      }
    }
  }
}

TEST_CASE("casts at the edge of a program") {
  Graph g;
  const Value half = g.input("half", {DType::fp16, {3}});
  const Value single = g.input("single", {DType::fp32, {3}});
  g.output("wide", ops::cast(half, "fp32"));
  g.output("narrow", ops::cast(single, "fp16"));
  g.output("rounded", ops::cast(ops::cast(single, "fp16"), "fp32"));
  g.output("same", ops::identity(half));
  g.output("flags", ops::cast(half, "bool"));
  check_against_reference(g, {}, 0);
}
