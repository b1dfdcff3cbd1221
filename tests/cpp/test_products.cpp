// Matrix products, on every instruction set this machine has, against a plain loop in double precision.
#include "kernel_bench.h"
#include "orion/error.h"

#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace orion;
using namespace orion::cpu;

namespace {

struct Packed {
  Panels panels;
  std::vector<std::byte> memory;

  Packed(ThreadPool& pool, const Stored& w, std::int64_t n, std::int64_t k) {
    panels = {nullptr, w.dtype, n, k};
    memory.resize(panels.bytes());
    panels.data = memory.data();
    pack_panels(pool, {w.data(), w.dtype, k, 1}, panels);
  }
};

struct LinearCase {
  std::int64_t m, n, k;
  DType dtype = DType::fp32;
  bool transposed = false;  // x (K, M) and y (N, M), as a 1x1 convolution has them
  Activation activation = Activation::none;
  bool epilogue = false;
};

void check_linear(const LinearCase& c) {
  INFO("m " << c.m << " n " << c.n << " k " << c.k << " " << c.dtype << " transposed " << c.transposed);
  const Floats x = random_floats(c.m * c.k, 1);
  const Stored w(c.dtype, random_floats(c.n * c.k, 2));
  const Floats bias = random_floats(c.n, 3);
  const Floats factor = random_floats(c.m * c.n, 4);
  const Floats residual = random_floats(c.m * c.n, 5);
  const Floats got = with_threads([&](ThreadPool& pool) {
    const Packed packed(pool, w, c.n, c.k);
    Floats y = residual;  // the residual may be the result's own memory
    LinearCall call{.x = x.data(),
                    .m = c.m,
                    .x_row = c.k,
                    .w = packed.panels,
                    .y = y.data(),
                    .y_row = c.n,
                    .epilogue = {}};
    if (c.transposed) {
      call.x_row = call.y_row = 1;
      call.x_col = call.y_col = c.m;
    }
    call.epilogue.activation = c.activation;
    if (c.epilogue) {
      call.epilogue.bias = bias.data();
      call.epilogue.factor = factor.data();
      call.epilogue.residual = y.data();
    }
    std::vector<std::byte> scratch(linear_scratch(call, pool.size()));
    linear(pool, call, scratch);
    return y;
  });
  Doubles want(got.size());
  for (std::int64_t m = 0; m < c.m; ++m)
    for (std::int64_t n = 0; n < c.n; ++n) {
      double sum = c.epilogue ? static_cast<double>(bias[index(n)]) : 0.0;
      for (std::int64_t k = 0; k < c.k; ++k)
        sum += static_cast<double>(x[index(c.transposed ? k * c.m + m : m * c.k + k)]) *
               static_cast<double>(w.values[index(n * c.k + k)]);
      const std::size_t at = index(c.transposed ? n * c.m + m : m * c.n + n);
      want[at] = activate(c.activation, sum);
      if (c.epilogue)
        want[at] = want[at] * static_cast<double>(factor[at]) + static_cast<double>(residual[at]);
    }
  check_close(got, want, c.k > 1000 ? 2e-5 : 1e-5);
}

}  // namespace

TEST_CASE("linear equals x W^T") {
  on_every_isa([] {
    for (const DType dtype : {DType::fp32, DType::fp16}) {
      for (const std::int64_t size : odd_sizes) {
        check_linear({1, size, 100, dtype});
        check_linear({2, 33, size, dtype});
        check_linear({3, size, size, dtype});
        check_linear({4, 65, size, dtype});
        check_linear({size, 65, 33, dtype});
        check_linear({17, size, 129, dtype});
      }
      check_linear({300, 40, 600, dtype});
      check_linear({40, 70, 1100, dtype});
      for (const std::int64_t m : {1, 3, 6, 29}) {
        check_linear({m, 65, 17, dtype, true});
        check_linear({m, 65, 300, dtype, true, Activation::silu, true});
      }
    }
  });
}

TEST_CASE("linear's epilogue adds bias, activates, multiplies and adds, also in place") {
  on_every_isa([] {
    for (const Activation activation :
         {Activation::none, Activation::relu, Activation::silu, Activation::gelu_erf, Activation::gelu_tanh,
          Activation::gelu_sigmoid, Activation::sigmoid, Activation::tanh})
      for (const std::int64_t m : {1, 2, 7, 33})
        check_linear({m, 45, 20, DType::fp16, false, activation, true});
  });
}

TEST_CASE("linear refuses scratch memory that is too small") {
  ThreadPool pool(1);
  const Packed packed(pool, Stored(DType::fp32, random_floats(64, 1)), 8, 8);
  Floats x(80), y(80);
  const LinearCall call{
      .x = x.data(), .m = 10, .x_row = 8, .w = packed.panels, .y = y.data(), .y_row = 8, .epilogue = {}};
  std::vector<std::byte> scratch(linear_scratch(call, 1) / 2);
  CHECK_THROWS_WITH_AS(linear(pool, call, scratch),
                       doctest::Contains("linear: the scratch memory is too small"), Error);
}

TEST_CASE("gemm multiplies matrices of any strides, one or many") {
  on_every_isa([] {
    for (const std::int64_t size : odd_sizes)
      for (int layout = 0; layout < 8; ++layout) {
        const std::int64_t m = size, n = 37, k = 2 * size, count = 4;
        INFO("size " << size << " layout " << layout);
        const bool at = (layout & 1) != 0, bt = (layout & 2) != 0, ct = (layout & 4) != 0;
        const Floats a = random_floats(count * m * k, 1), b = random_floats(count * k * n, 2);
        const Floats got = with_threads([&](ThreadPool& pool) {
          Floats c(index(count * m * n));
          std::vector<GemmCall> calls;
          for (std::int64_t i = 0; i < count; ++i)
            calls.push_back({m, n, k, a.data() + i * m * k, at ? 1 : k, at ? m : 1, b.data() + i * k * n,
                             bt ? 1 : n, bt ? k : 1, c.data() + i * m * n, ct ? 1 : n, ct ? m : 1});
          std::vector<std::byte> scratch(gemm_scratch(calls[0], pool.size()));
          gemm(pool, std::span(calls).first(1), scratch);  // fewer than threads, then more
          gemm(pool, std::span(calls).subspan(1), scratch);
          return c;
        });
        Doubles want(got.size());
        for (std::int64_t i = 0; i < count; ++i)
          for (std::int64_t r = 0; r < m; ++r)
            for (std::int64_t col = 0; col < n; ++col) {
              double sum = 0.0;
              for (std::int64_t x = 0; x < k; ++x)
                sum += static_cast<double>(a[index(i * m * k + (at ? x * m + r : r * k + x))]) *
                       static_cast<double>(b[index(i * k * n + (bt ? col * k + x : x * n + col))]);
              want[index(i * m * n + (ct ? col * m + r : r * n + col))] = sum;
            }
        check_close(got, want, 1e-5);
      }
  });
}

namespace {

/// c (M, N) = a (M, K) b (K, N), each row-major.
GemmCall dense_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const Floats& a, const Floats& b,
                    Floats& c) {
  return {.m = m,
          .n = n,
          .k = k,
          .a = a.data(),
          .a_row = k,
          .b = b.data(),
          .b_row = n,
          .c = c.data(),
          .c_row = n};
}

}  // namespace

TEST_CASE("gemm adds to what was there, and takes bias, activation and factor before") {
  on_every_isa([] {
    // Long sums go in pieces if they are plain, that is only added to.
    for (const auto& [k, plain] :
         {std::pair{3, false}, {40, false}, {1100, false}, {1100, true}, {4100, true}}) {
      INFO("k " << k << " plain " << plain);
      const std::int64_t m = 19, n = 45;
      const Floats a = random_floats(m * k, 1), b = random_floats(k * n, 2), bias = random_floats(n, 3);
      const Floats factor = random_floats(m * n, 4), before = random_floats(m * n, 5);
      const Activation activation = plain ? Activation::none : Activation::silu;
      const Floats got = with_threads([&](ThreadPool& pool) {
        Floats c = before;
        GemmCall call = dense_gemm(m, n, k, a, b, c);
        call.epilogue = {.bias = bias.data(),
                         .activation = activation,
                         .factor = plain ? nullptr : factor.data(),
                         .residual = c.data()};
        std::vector<std::byte> scratch(gemm_scratch(call, pool.size()));
        gemm(pool, call, scratch);
        return c;
      });
      Doubles want(got.size());
      for (std::int64_t r = 0; r < m; ++r)
        for (std::int64_t col = 0; col < n; ++col) {
          double sum = static_cast<double>(bias[index(col)]);
          for (std::int64_t x = 0; x < k; ++x)
            sum += static_cast<double>(a[index(r * k + x)]) * static_cast<double>(b[index(x * n + col)]);
          const double scale = plain ? 1.0 : static_cast<double>(factor[index(r * n + col)]);
          want[index(r * n + col)] =
              activate(activation, sum) * scale + static_cast<double>(before[index(r * n + col)]);
        }
      check_close(got, want, k > 2000 ? 1e-4 : 1e-5);
    }
  });
}

TEST_CASE("a long sum is the same of rows that were rounded to bfloat16 before") {
  on_every_isa([] {
    const std::int64_t m = 70, n = 45, k = 2112;
    const Floats a = random_floats(m * k, 1), b = random_floats(n * k, 2);
    const std::vector<std::uint16_t> a_bits = bits_of(a);
    const auto multiplied = [&](const float* floats, const std::uint16_t* bits) {
      return with_threads([&](ThreadPool& pool) {
        Floats c(index(m * n));
        GemmCall call = dense_gemm(m, n, k, a, b, c);
        call.b_row = 1;
        call.b_col = k;
        call.a = floats;
        call.a_rounded = bits;
        call.bf16 = true;
        std::vector<std::byte> scratch(gemm_scratch(call, pool.size()));
        gemm(pool, call, scratch);
        return c;
      });
    };
    const Floats got = multiplied(a.data(), nullptr);
    CHECK(multiplied(nullptr, a_bits.data()) == got);
    check_close(got, product(rounded(a), rounded(b), m, n, k), 1e-4);
  });
}

// The right operand is packed before, a few megabytes of columns at once, unless all rows of the left one
// stay in the second-level cache.
TEST_CASE("gemm of many rows and columns") {
  on_every_isa([] {
    for (const auto& [k, turned] :
         {std::pair{most_gemm_inputs, false}, {most_gemm_inputs, true}, {120, false}}) {
      INFO("k " << k << " turned " << turned);
      const std::int64_t m = 301, n = 290;
      const Floats a = random_floats(m * k, 1), b = random_floats(k * n, 2), bias = random_floats(n, 3);
      const Floats before = random_floats(m * n, 4);
      ThreadPool pool(2);
      Floats c = before;
      GemmCall call = dense_gemm(m, n, k, a, b, c);
      if (turned) {
        call.b_row = 1;
        call.b_col = k;
      }
      call.epilogue = {.bias = bias.data(), .residual = c.data()};
      std::vector<std::byte> scratch(gemm_scratch(call, pool.size()));
      gemm(pool, call, scratch);
      Floats got;
      Doubles want;
      for (const std::int64_t r : {0, 150, 300})
        for (std::int64_t col = 0; col < n; ++col) {
          const std::int64_t at = r * n + col;
          double sum = static_cast<double>(bias[index(col)]) + static_cast<double>(before[index(at)]);
          for (std::int64_t x = 0; x < k; ++x)
            sum += static_cast<double>(a[index(r * k + x)]) *
                   static_cast<double>(b[index(turned ? col * k + x : x * n + col)]);
          got.push_back(c[index(at)]);
          want.push_back(sum);
        }
      check_close(got, want, 1e-4);
    }
  });
}

TEST_CASE("packings of many workers are bounded together, and give the same") {
  const std::int64_t m = 290, n = 70, k = most_gemm_inputs;
  const Floats a = random_floats(m * k, 1), b = random_floats(k * n, 2);
  const auto multiplied = [&](int threads) {
    ThreadPool pool(threads);
    Floats c(index(m * n));
    const GemmCall call = dense_gemm(m, n, k, a, b, c);
    std::vector<std::byte> scratch(gemm_scratch(call, pool.size()));
    gemm(pool, call, scratch);
    return c;
  };
  CHECK(multiplied(40) == multiplied(1));
  LinearCall wide;
  wide.m = m;
  wide.w.n = n;
  wide.w.k = k;
  CHECK(linear_scratch(wide, 64) < std::size_t{100} << 20);
}

TEST_CASE("panels keep every element, and rows are found in them") {
  ThreadPool pool(3);
  on_every_isa([&] {
    for (const DType from : {DType::fp32, DType::fp16})
      for (const DType to : {DType::fp32, DType::fp16})
        for (const std::int64_t n : odd_sizes) {
          const std::int64_t k = 19;
          const Stored matrix(from, random_floats(n * k, 1));
          std::vector<std::byte> memory(Panels{nullptr, to, n, k}.bytes());
          const Panels panels{memory.data(), to, n, k};
          pack_panels(pool, {matrix.data(), from, 1, n}, panels);  // the transpose of (K, N)
          Floats back(index(n * k));
          unpack_panels(pool, panels, {back.data(), DType::fp32, 1, n});
          CHECK(back == matrix.values);
          const std::vector<std::int32_t> ids = {static_cast<std::int32_t>(n - 1), 0,
                                                 static_cast<std::int32_t>(n / 2)};
          Floats packed_rows(index(3 * k)), plain_rows(index(3 * k));
          gather_rows(pool, panels, ids, packed_rows.data());
          gather_rows(pool, {matrix.data(), from, 1, n}, n, k, ids, plain_rows.data());
          CHECK(packed_rows == plain_rows);
          CHECK(plain_rows[0] == matrix.values[index(n - 1)]);
        }
  });
  const Floats table(6);
  Floats row(3);
  const std::vector<std::int32_t> bad = {1, 2};
  CHECK_THROWS_WITH_AS(gather_rows(pool, {table.data(), DType::fp32, 3, 1}, 2, 3, bad, row.data()),
                       "gather: index 2 at position 1 is outside the table of 2 rows", Error);
}
