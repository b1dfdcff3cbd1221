// Attention, on every instruction set this machine has, against a plain loop in double precision.
#include "kernel_bench.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

using namespace orion;
using namespace orion::cpu;

namespace {

struct AttentionCase {
  std::int64_t b, h, g, t, s, d, dv;
  bool causal = false;
  std::vector<std::int32_t> position = {};
  int mask = 0;  // 1: (T, S) shared by all heads, 2: a row of S for each batch
  DType dtype = DType::fp32;
  bool bf16 = false;
};

Doubles reference_attention(const AttentionCall& a, const Floats& k, const Floats& v) {
  Doubles y(index(a.b * a.h * a.t * a.dv));
  for (std::int64_t row = 0; row < a.b * a.h * a.t; ++row) {
    const std::int64_t i = row % a.t;
    const std::int64_t h = row / a.t % a.h;
    const std::int64_t b = row / a.t / a.h;
    const std::int64_t cache = (b * a.g + h / (a.h / a.g)) * a.s;
    Doubles scores(index(a.s), -static_cast<double>(infinity));
    const std::int64_t offset = a.position != nullptr ? a.position[b] : 0;
    for (std::int64_t j = 0; j < a.s; ++j) {
      if ((a.causal || a.position != nullptr) && j > offset + i) continue;
      double dot = 0.0;
      for (std::int64_t x = 0; x < a.d; ++x)
        dot += static_cast<double>(a.q[row * a.d + x]) * static_cast<double>(k[index((cache + j) * a.d + x)]);
      scores[index(j)] = dot * static_cast<double>(a.scale);
      if (a.mask != nullptr)
        scores[index(j)] +=
            static_cast<double>(a.mask[b * a.mask_b + h * a.mask_h + i * a.mask_t + j * a.mask_s]);
    }
    const double largest = *std::ranges::max_element(scores);
    double total = 0.0;
    for (double& score : scores) total += score = std::exp(score - largest);
    for (std::int64_t x = 0; x < a.dv; ++x) {
      double sum = 0.0;
      for (std::int64_t j = 0; j < a.s; ++j)
        sum += scores[index(j)] * static_cast<double>(v[index((cache + j) * a.dv + x)]);
      y[index(row * a.dv + x)] = sum / total;
    }
  }
  return y;
}

void check_attention(const AttentionCase& c) {
  INFO("b " << c.b << " h " << c.h << " g " << c.g << " t " << c.t << " s " << c.s << " d " << c.d << " dv "
            << c.dv << " causal " << c.causal << " mask " << c.mask << " " << c.dtype);
  const auto numbers = [&](std::int64_t count, unsigned seed) {
    Floats values = random_floats(count, seed);
    if (c.bf16)
      std::ranges::for_each(values, [](float& value) { value = std::round(value * 64.0F) / 64.0F; });
    return values;
  };
  const Floats q = numbers(c.b * c.h * c.t * c.d, 1);
  const Stored k(c.dtype, numbers(c.b * c.g * c.s * c.d, 2));
  const Stored v(c.dtype, numbers(c.b * c.g * c.s * c.dv, 3));
  Floats mask = random_floats(c.mask == 1 ? c.t * c.s : c.b * c.s, 4);
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (i % 3 == 1) mask[i] = -infinity;
  AttentionCall call{.q = q.data(),
                     .q_rows = dense_rows(c.h, c.t, c.d),
                     .k = k.data(),
                     .k_rows = dense_rows(c.g, c.s, c.d),
                     .v = v.data(),
                     .v_rows = dense_rows(c.g, c.s, c.dv),
                     .kv_dtype = c.dtype,
                     .y_rows = dense_rows(c.h, c.t, c.dv),
                     .b = c.b,
                     .h = c.h,
                     .g = c.g,
                     .t = c.t,
                     .s = c.s,
                     .d = c.d,
                     .dv = c.dv,
                     .scale = c.bf16 ? 0.5F : 0.7F,
                     .bf16 = c.bf16,
                     .causal = c.causal};
  if (!c.position.empty()) call.position = c.position.data();
  if (c.mask != 0) {
    call.mask = mask.data();
    call.mask_s = 1;
    (c.mask == 1 ? call.mask_t : call.mask_b) = c.s;
  }
  const Floats got = with_threads([&](ThreadPool& pool) {
    Floats y(index(c.b * c.h * c.t * c.dv), 9.0F);
    call.y = y.data();
    attend(pool, call);
    return y;
  });
  // Queries, keys and values are bfloat16 numbers: only the weights are rounded, each by half of 2^-8 at
  // most.
  check_close(got, reference_attention(call, k.values, v.values), c.bf16 ? 0x1p-9 : 2e-6);
}

}  // namespace

TEST_CASE("attention equals the softmax of all scores") {
  on_every_isa([] {
    for (const bool bf16 : {false, true}) {
      for (const DType dtype : {DType::fp32, DType::fp16})
        for (const std::int64_t size : odd_sizes) {
          check_attention({1, 2, 1, 1, size, 16, 16, false, {}, 0, dtype, bf16});
          check_attention({2, 2, 2, 3, 2 * size, size, 20, true, {}, 0, dtype, bf16});
          check_attention({2, 4, 2, 2, 150, 20, size, false, {70, 147}, 2, dtype, bf16});
          check_attention({1, 4, 2, size, size, 20, 24, true, {}, 0, dtype, bf16});
          check_attention({1, 2, 2, 40, 130, size, 64, false, {}, 1, dtype, bf16});
          check_attention({2, 1, 1, 35, 300, 33, size, false, {5, 250}, 2, dtype, bf16});
        }
      check_attention({1, 2, 2, 300, 300, 64, 64, true, {}, 0, DType::fp32, bf16});
      check_attention({1, 2, 1, 520, 70, 8, 40, false, {}, 1, DType::fp32, bf16});
    }
  });
}

TEST_CASE("attention reads and writes heads of a token side by side") {
  on_every_isa([] {
    for (const std::int64_t t : {1, 5, 70}) {
      const std::int64_t b = 2, h = 3, d = 20, e = 24;
      const Shape queries{b, h, t, d}, values{b, h, t, e};
      const Floats q = random_floats(queries.size(), 1), k = random_floats(queries.size(), 2),
                   v = random_floats(values.size(), 3);
      const auto run = [&](Order order) {
        const Floats own_q = reordered(q, queries, dense_rows, order),
                     own_k = reordered(k, queries, dense_rows, order),
                     own_v = reordered(v, values, dense_rows, order);
        const Floats y = with_threads([&](ThreadPool& pool) {
          Floats result(index(values.size()));
          const AttentionCall call{.q = own_q.data(),
                                   .q_rows = order(h, t, d),
                                   .k = own_k.data(),
                                   .k_rows = order(h, t, d),
                                   .v = own_v.data(),
                                   .v_rows = order(h, t, e),
                                   .y = result.data(),
                                   .y_rows = order(h, t, e),
                                   .b = b,
                                   .h = h,
                                   .g = h,
                                   .t = t,
                                   .s = t,
                                   .d = d,
                                   .dv = e,
                                   .causal = true};
          attend(pool, call);
          return result;
        });
        return reordered(y, values, order, dense_rows);
      };
      CHECK(run(tokens_first) == run(dense_rows));
    }
  });
}

TEST_CASE("attention of a query that sees no key is NaN, and of hidden keys reads nothing") {
  on_every_isa([] {
    for (const std::int64_t t : {1, 20}) {
      const Floats q(index(t * 4), 1.0F);
      Floats k(index(100 * 4), not_a_number);
      std::fill_n(k.begin(), (t + 5) * 4, 0.5F);
      const std::int32_t position = 5;
      Floats mask(100, -infinity);
      AttentionCall call{.q = q.data(),
                         .q_rows = dense_rows(1, t, 4),
                         .k = k.data(),
                         .k_rows = dense_rows(1, 100, 4),
                         .v = k.data(),
                         .v_rows = dense_rows(1, 100, 4),
                         .y_rows = dense_rows(1, t, 4),
                         .b = 1,
                         .h = 1,
                         .g = 1,
                         .t = t,
                         .s = 100,
                         .d = 4,
                         .dv = 4,
                         .position = &position};
      const auto run = [&](ThreadPool& pool) {
        Floats y(index(t * 4));
        call.y = y.data();
        attend(pool, call);
        return y;
      };
      check_close(with_threads(run), Doubles(index(t * 4), 0.5), 1e-6);
      call.mask = mask.data();
      call.mask_s = 1;
      check_close(with_threads(run), Doubles(index(t * 4), static_cast<double>(not_a_number)), 0.0);
    }
  });
}
