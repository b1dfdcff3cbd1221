// Every kernel, on every instruction set this machine has, against a plain loop in double precision.
#include "base/f16.h"
#include "kernel_bench.h"
#include "orion/error.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace orion;
using namespace orion::cpu;

namespace {

// -- accuracy -------------------------------------------------------------------------------------

/// Error in units in the last place of the exact result, rounded to float.
double ulps(float got, double want) {
  const auto rounded = static_cast<float>(want);
  if (got == rounded || (std::isnan(got) && std::isnan(rounded))) return 0.0;
  if (!std::isfinite(got) || !std::isfinite(rounded)) return infinity;
  const int exponent =
      std::max(std::ilogb(std::max(std::fabs(rounded), std::numeric_limits<float>::min())), -126);
  return std::fabs(static_cast<double>(got) - want) / std::ldexp(1.0, exponent - 23);
}

Floats run_unary(Unary op, const Floats& x, float alpha = 0.0F, float beta = 0.0F) {
  return with_threads([&](ThreadPool& pool) {
    Floats y(x.size());
    unary(pool, {op, x.data(), y.data(), static_cast<std::int64_t>(x.size()), alpha, beta});
    return y;
  });
}

/// Floats of both signs, evenly spread over the bit patterns of magnitudes up to `limit`.
Floats spread(float limit, bool negative) {
  Floats x;
  for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(limit); bits += 9973) {
    x.push_back(std::bit_cast<float>(bits));
    if (negative) x.push_back(-x.back());
  }
  return x;
}

struct Accuracy {
  const char* name;
  Unary op;
  double (*exact)(double);
  float limit;
  bool negative;
  double max_ulps;  // asserted; measured on all instruction sets and rounded up
};

double silu(double x) {
  return activate(Activation::silu, x);
}
double gelu_erf(double x) {
  return activate(Activation::gelu_erf, x);
}
double gelu_tanh(double x) {
  return activate(Activation::gelu_tanh, x);
}
double gelu_sigmoid(double x) {
  return activate(Activation::gelu_sigmoid, x);
}
double sigmoid(double x) {
  return activate(Activation::sigmoid, x);
}
double rsqrt(double x) {
  return 1.0 / std::sqrt(x);
}

// x sigmoid(u) inherits the rounding of u, which far in the negative tail of the GELUs is many units of the
// result.
constexpr Accuracy accuracies[] = {
    {"exp", Unary::exp, std::exp, 110.0F, true, 1.0},
    {"log", Unary::log, std::log, 3e38F, false, 1.0},
    {"tanh", Unary::tanh, std::tanh, 20.0F, true, 1.5},
    {"sigmoid", Unary::sigmoid, sigmoid, 110.0F, true, 2.0},
    {"erf", Unary::erf, std::erf, 6.0F, true, 2.5},
    {"silu", Unary::silu, silu, 80.0F, true, 3.0},
    {"gelu_erf", Unary::gelu_erf, gelu_erf, 5.0F, true, 7.0},
    {"gelu_tanh", Unary::gelu_tanh, gelu_tanh, 5.0F, true, 25.0},
    {"gelu_sigmoid", Unary::gelu_sigmoid, gelu_sigmoid, 5.0F, true, 8.0},
    {"sqrt", Unary::sqrt, std::sqrt, 3e38F, false, 0.51},
    {"rsqrt", Unary::rsqrt, rsqrt, 3e38F, false, 1.5},
};

}  // namespace

TEST_CASE("fp16 conversion is exact one way and rounds to nearest even the other") {
  ThreadPool pool(2);
  on_every_isa([&] {
    std::vector<std::uint16_t> halves(65536);
    for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
    Floats wide(halves.size());
    widen(pool, halves.data(), wide.data(), 65536);
    std::size_t different = 0;
    for (std::size_t i = 0; i < halves.size(); ++i)
      different +=
          std::isnan(wide[i]) ? !std::isnan(half_to_float(halves[i])) : wide[i] != half_to_float(halves[i]);
    CHECK(different == 0);
    const Floats values = spread(70000.0F, true);
    std::vector<std::uint16_t> narrowed(values.size());
    narrow(pool, values.data(), narrowed.data(), static_cast<std::int64_t>(values.size()));
    for (std::size_t i = 0; i < values.size(); ++i) different += narrowed[i] != float_to_half(values[i]);
    CHECK(different == 0);
  });
}

TEST_CASE("elementary functions are accurate") {
  on_every_isa([] {
    for (const Accuracy& row : accuracies) {
      const Floats x = spread(row.limit, row.negative);
      const Floats y = run_unary(row.op, x);
      double worst = 0.0;
      float where = 0.0F;
      for (std::size_t i = 0; i < x.size(); ++i)
        if (const double error = ulps(y[i], row.exact(static_cast<double>(x[i]))); error > worst) {
          worst = error;
          where = x[i];
        }
      INFO(std::string(row.name) << ": " << worst << " ulp at " << where);
      CHECK(worst <= row.max_ulps);
    }
  });
}

TEST_CASE("elementary functions at the edges") {
  on_every_isa([] {
    const Floats x = {infinity, -infinity, not_a_number, 0.0F, -0.0F, 1e30F, -1e30F};
    struct Row {
      Unary op;
      Floats want;
    };
    const float nan = not_a_number;
    for (const Row& row :
         {Row{Unary::exp, {infinity, 0, nan, 1, 1, infinity, 0}}, Row{Unary::tanh, {1, -1, nan, 0, 0, 1, -1}},
          Row{Unary::sigmoid, {1, 0, nan, 0.5F, 0.5F, 1, 0}}, Row{Unary::erf, {1, -1, nan, 0, 0, 1, -1}},
          Row{Unary::relu, {infinity, 0, nan, 0, 0, 1e30F, 0}},
          Row{Unary::abs, {infinity, infinity, nan, 0, 0, 1e30F, 1e30F}},
          Row{Unary::neg, {-infinity, infinity, nan, 0, 0, -1e30F, 1e30F}},
          Row{Unary::square, {infinity, infinity, nan, 0, 0, infinity, infinity}}}) {
      const Floats got = run_unary(row.op, x);
      for (std::size_t i = 0; i < x.size(); ++i) {
        INFO("op " << static_cast<int>(row.op) << " of " << x[i] << " is " << got[i]);
        CHECK((std::isnan(row.want[i]) ? std::isnan(got[i]) : got[i] == row.want[i]));
      }
    }
    const Floats logs = run_unary(Unary::log, {infinity, -1.0F, not_a_number, 0.0F, 1.0F, -infinity});
    CHECK(logs[0] == infinity);
    CHECK(std::isnan(logs[1]));
    CHECK(std::isnan(logs[2]));
    CHECK(logs[3] == -infinity);
    CHECK(logs[4] == 0.0F);
    CHECK(std::isnan(logs[5]));
    CHECK(run_unary(Unary::clip, {-2.0F, 0.5F, 9.0F}, -1.0F, 6.0F) == Floats{-1.0F, 0.5F, 6.0F});
    CHECK(run_unary(Unary::rsqrt, {3.0F}, 1.0F) == Floats{0.5F});
  });
}

TEST_CASE("binary functions broadcast") {
  struct Row {
    Binary op;
    double (*exact)(double, double);
  };
  const Row rows[] = {{Binary::add, [](double a, double b) { return a + b; }},
                      {Binary::sub, [](double a, double b) { return a - b; }},
                      {Binary::mul, [](double a, double b) { return a * b; }},
                      {Binary::real_div, [](double a, double b) { return a / b; }},
                      {Binary::maximum, [](double a, double b) { return std::max(a, b); }},
                      {Binary::minimum, [](double a, double b) { return std::min(a, b); }},
                      {Binary::pow, [](double a, double b) { return std::pow(a, b); }}};
  on_every_isa([&] {
    for (const Row& row : rows)
      for (const std::int64_t cols : odd_sizes)
        for (int form = 0; form < 4; ++form) {  // same shape, row vector, column, scalar
          const std::int64_t count = 90;
          const std::int64_t b_row = form == 0 ? cols : form == 2 ? 1 : 0, b_col = form < 2 ? 1 : 0;
          const Floats a = random_floats(count * cols, 1), b = random_floats(count * cols, 2);
          const Floats got = with_threads([&](ThreadPool& pool) {
            Floats y(index(count * cols));
            binary(pool, {row.op, a.data(), b.data(), y.data(), count, cols, cols, 1, b_row, b_col});
            return y;
          });
          Doubles want(got.size());
          for (std::int64_t i = 0; i < count; ++i)
            for (std::int64_t j = 0; j < cols; ++j)
              want[index(i * cols + j)] = row.exact(static_cast<double>(a[index(i * cols + j)]),
                                                    static_cast<double>(b[index(i * b_row + j * b_col)]));
          check_close(got, want, 1e-6);
        }
    ThreadPool pool(1);
    for (const Binary op : {Binary::maximum, Binary::minimum}) {
      const Floats a = {not_a_number, 1.0F}, b = {1.0F, not_a_number};
      Floats y(2);
      binary(pool, {op, a.data(), b.data(), y.data(), 1, 2, 2, 1, 2, 1});
      CHECK(std::isnan(y[0]));
      CHECK(std::isnan(y[1]));
    }
  });
}

TEST_CASE("norms and softmax work on rows") {
  using Kernel = void (*)(ThreadPool&, const RowsCall&);
  on_every_isa([] {
    for (const std::int64_t cols : odd_sizes)
      for (int form = 0; form < 5; ++form) {  // layer norm and RMS norm without and with weights, softmax
        INFO("cols " << cols << " form " << form);
        const std::int64_t rows = 80;
        Floats x = random_floats(rows * cols, 1);
        for (float& value : x) value = value * 3.0F + 5.0F;
        const Floats gamma = random_floats(cols, 2), beta = random_floats(cols, 3);
        const bool weighted = form % 2 == 1;
        const Kernel kernel = form == 4 ? static_cast<Kernel>(softmax) : form < 2 ? layer_norm : rms_norm;
        const Floats got = with_threads([&](ThreadPool& pool) {
          Floats y = x;  // in place
          kernel(pool, {y.data(), y.data(), rows, cols, weighted ? gamma.data() : nullptr,
                        weighted ? beta.data() : nullptr, 1e-3F});
          return y;
        });
        Doubles want(x.begin(), x.end());
        for (std::int64_t i = 0; i < rows; ++i) {
          const std::span row(want.data() + i * cols, index(cols));
          double mean = 0.0, square = 0.0, total = 0.0;
          if (form < 2)
            for (const double value : row) mean += value / static_cast<double>(cols);
          for (const double value : row)
            square += (value - mean) * (value - mean) / static_cast<double>(cols);
          const double largest = *std::ranges::max_element(row);
          for (const double value : row) total += std::exp(value - largest);
          for (std::size_t j = 0; j < row.size(); ++j) {
            row[j] =
                form == 4 ? std::exp(row[j] - largest) / total : (row[j] - mean) / std::sqrt(square + 1e-3);
            if (weighted) row[j] = row[j] * static_cast<double>(gamma[j]) + static_cast<double>(beta[j]);
          }
        }
        check_close(got, want, 1e-5);
      }
  });
}

TEST_CASE("argmax finds the first of the largest, and NaN before all") {
  on_every_isa([] {
    for (const std::int64_t size : odd_sizes) {
      Floats x(index(size), -infinity);
      CHECK(argmax(x.data(), size) == 0);
      x.back() = 2.0F;
      CHECK(argmax(x.data(), size) == size - 1);
      x[index(size / 2)] = 2.0F;
      CHECK(argmax(x.data(), size) == size / 2);
      x.back() = not_a_number;
      CHECK(argmax(x.data(), size) == size - 1);
    }
  });
}

TEST_CASE("rope rotates halves or neighbours") {
  on_every_isa([] {
    for (const std::int64_t half : {1, 3, 8, 17, 32, 50})
      for (int form = 0; form < 4; ++form) {
        const bool full = (form & 1) != 0, interleaved = (form & 2) != 0;
        const std::int64_t b = 2, h = 3, t = 5, d = 2 * half, table = full ? d : half;
        INFO("d " << d << " full table " << full << " interleaved " << interleaved);
        const Floats x = random_floats(b * t * h * d, 1);  // (B, T, H, D) in, (B, H, T, D) out
        const Floats cos = random_floats(b * t * table, 2), sin = random_floats(b * t * table, 3);
        const Floats got = with_threads([&](ThreadPool& pool) {
          Floats y(x.size());
          rope(pool, {x.data(), y.data(), b, h, t, d, tokens_first(h, t, d), dense_rows(h, t, d), cos.data(),
                      sin.data(), t * table, table, full, interleaved});
          return y;
        });
        Doubles want(got.size());
        for (std::int64_t row = 0; row < b * h * t; ++row)
          for (std::int64_t i = 0; i < half; ++i) {
            const std::int64_t ti = row % t, hi = row / t % h, bi = row / t / h;
            const std::int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
            const float* from = x.data() + ((bi * t + ti) * h + hi) * d;
            const auto u = static_cast<double>(from[first]), v = static_cast<double>(from[second]);
            const auto angle = [&](const Floats& values, std::int64_t element) {
              return static_cast<double>(values[index((bi * t + ti) * table + (full ? element : i))]);
            };
            want[index(row * d + first)] = u * angle(cos, first) - v * angle(sin, first);
            want[index(row * d + second)] = v * angle(cos, second) + u * angle(sin, second);
          }
        check_close(got, want, 1e-6);
      }
  });
}

TEST_CASE("the instruction set can be chosen by name") {
  CHECK(find_kernels("portable").name == "portable");
  CHECK(find_kernels("").name == supported_kernels().front()->name);
  CHECK_THROWS_WITH_AS(find_kernels("sse9"), doctest::Contains("ORION_ISA is 'sse9': this machine runs"),
                       Error);
}
