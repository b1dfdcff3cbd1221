// Attention's gradient, on every instruction set this machine has, against the op table's.
#include "cpu/attention_gradient.h"
#include "kernel_bench.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <map>
#include <string>
#include <utility>

using namespace orion;
using namespace orion::cpu;

namespace {

// q, k, v and dy by the names of their operands.
TensorMap attention_operands(const AttentionGradientCall& c) {
  TensorMap operands;
  unsigned seed = 0;
  for (const auto& [name, shape] :
       {std::pair("q", Shape{c.b, c.h, c.t, c.d}), std::pair("k", Shape{c.b, c.g, c.s, c.d}),
        std::pair("v", Shape{c.b, c.g, c.s, c.e}), std::pair("dy", Shape{c.b, c.h, c.t, c.e})}) {
    operands[name] = Tensor(TensorType{DType::fp32, shape});
    const Floats values = random_floats(shape.size(), ++seed);
    std::ranges::copy(values, operands[name].as<float>().begin());
  }
  return operands;
}

// dq, dk and dv by the op table.
TensorMap attention_gradients_by_table(const AttentionGradientCall& c, const TensorMap& operands) {
  Graph g;
  const auto input = [&](const char* name) { return g.input(name, operands.at(name).type()); };
  const Value q = input("q"), k = input("k"), v = input("v"), dy = input("dy");
  for (const char* of : {"query", "key", "value"})
    g.output(str('d', of[0]), ops::scaled_dot_product_attention_gradient(q, k, v, dy, of, c.causal,
                                                                         static_cast<double>(c.scale)));
  return evaluate(g, operands);
}

// One gradient with all operands and results in that order.
Floats gradient_in(Order order, AttentionGradientCall call, const TensorMap& operands, ThreadPool& pool,
                   const std::string& wanted) {
  struct Operand {
    const float*& at;
    HeadRows& rows;
    float*& gradient;
    HeadRows& gradient_rows;
  };
  float* no_gradient = nullptr;
  HeadRows no_rows;
  std::map<std::string, Operand> all = {{"q", {call.q, call.q_rows, call.dq, call.dq_rows}},
                                        {"k", {call.k, call.k_rows, call.dk, call.dk_rows}},
                                        {"v", {call.v, call.v_rows, call.dv, call.dv_rows}},
                                        {"dy", {call.dy, call.dy_rows, no_gradient, no_rows}}};
  std::map<std::string, Floats> values, results;
  for (auto& [name, operand] : all) {
    const Tensor& dense = operands.at(name);
    const Shape& shape = dense.shape();
    values[name] = reordered(dense.as<float>(), shape, dense_rows, order);
    operand.at = values[name].data();
    operand.rows = operand.gradient_rows = order(shape[1], shape[2], shape[3]);
    if (pool.size() == 1 && 'd' + name != wanted) continue;  // one alone, then all together
    results[name] = values[name];
    operand.gradient = results[name].data();
  }
  std::vector<std::byte> scratch(attention_gradient_scratch(call, pool.size()));
  attention_gradient(pool, call, scratch);
  const std::string of = wanted.substr(1);
  return reordered(results.at(of), operands.at(of).shape(), order, dense_rows);
}

void check_attention_gradient(const AttentionGradientCall& call) {
  INFO((call.bf16 ? "bf16, " : "") << "heads " << call.h << " of " << call.g << ", " << call.t << " queries, "
                                   << call.s << " keys of " << call.d);
  const TensorMap operands = attention_operands(call);
  for (const auto& [name, wanted] : attention_gradients_by_table(call, operands))
    for (const Order order : {dense_rows, tokens_first}) {
      INFO(name << (order == tokens_first ? ", tokens first" : ""));
      const Floats got = with_threads(
          [&, of = name](ThreadPool& pool) { return gradient_in(order, call, operands, pool, of); });
      Doubles want;
      for (const float value : wanted.as<float>()) want.push_back(static_cast<double>(value));
      check_close(got, want, call.bf16 ? 0x1p-6 : 1e-5);
    }
}

}  // namespace

TEST_CASE("what comes back through attention") {
  on_every_isa([] {
    for (const std::int64_t size : {1, 7, 33, 64, 65, 130})
      for (const bool causal : {false, true}) {
        check_attention_gradient(
            {.b = 2, .h = 4, .g = 2, .t = size, .s = size, .d = 8, .e = 6, .scale = 0.3F, .causal = causal});
        check_attention_gradient(
            {.b = 1, .h = 1, .g = 1, .t = size, .s = 70, .d = 33, .e = 17, .causal = causal});
        check_attention_gradient(
            {.b = 1, .h = 2, .g = 1, .t = size, .s = size, .d = 9, .e = 8, .bf16 = true, .causal = causal});
      }
    // Fewer keys than all may be packed in larger pieces, and need more memory, than all of them.
    for (const bool bf16 : {false, true})
      check_attention_gradient(
          {.b = 1, .h = 1, .g = 1, .t = 330, .s = 330, .d = 5, .e = 7, .bf16 = bf16, .causal = true});
  });
}
