// The kernels that only training needs, as test_kernels.cpp tests the others.
#include "kernel_bench.h"
#include "orion/error.h"

#include <numeric>
#include <string>

using namespace orion;
using namespace orion::cpu;

namespace {

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

double slope(Binary op, double x) {
  if (op == Binary::silu_gradient) return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
  if (op == Binary::gelu_erf_gradient)
    return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-x * x / 2.0) * 0.39894228040143268;
  const double u =
      op == Binary::gelu_sigmoid_gradient ? 1.702 * x : 1.5957691216057308 * (x + 0.044715 * x * x * x);
  const double du =
      op == Binary::gelu_sigmoid_gradient ? 1.702 : 1.5957691216057308 * (1.0 + 3.0 * 0.044715 * x * x);
  const double p = sigmoid(u);
  return p * (1.0 - p) == 0.0 ? p : p + x * p * (1.0 - p) * du;
}

std::vector<std::int32_t> labels_for(std::int64_t rows, std::int64_t classes) {
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < rows; ++i)
    labels.push_back(i % 5 == 3 ? -100 : static_cast<std::int32_t>(i * 7 % classes));
  return labels;
}

// In double: log(sum(exp(row))).
double log_sum(const float* row, std::int64_t cols) {
  const auto largest = static_cast<double>(*std::max_element(row, row + cols));
  double total = 0.0;
  for (std::int64_t j = 0; j < cols; ++j) total += std::exp(static_cast<double>(row[j]) - largest);
  return std::log(total) + largest;
}

}  // namespace

TEST_CASE("gradients of activations") {
  on_every_isa([] {
    for (const Binary op : {Binary::silu_gradient, Binary::gelu_erf_gradient, Binary::gelu_tanh_gradient,
                            Binary::gelu_sigmoid_gradient}) {
      INFO("op " << static_cast<int>(op));
      Floats x = {0.0F, -0.0F, 1e4F, -1e4F, 3e38F, -3e38F, 90.0F, -90.0F, not_a_number};
      for (float at = -22.0F; at < 22.0F; at += 0.037F) x.push_back(at);
      const Floats dy = random_floats(std::ssize(x), 2);
      const Floats got = with_threads([&](ThreadPool& pool) {
        Floats dx = x;  // in place
        binary(pool,
               {.op = op, .a = dx.data(), .b = dy.data(), .y = dx.data(), .rows = 1, .cols = std::ssize(x)});
        return dx;
      });
      Doubles want;
      for (std::size_t i = 0; i < x.size(); ++i)
        want.push_back(static_cast<double>(dy[i]) * slope(op, static_cast<double>(x[i])));
      check_close(got, want, 2e-6);
    }
  });
}

TEST_CASE("gradients of norms and softmax work on rows") {
  using Kernel = void (*)(ThreadPool&, const RowsGradientCall&);
  on_every_isa([] {
    for (const std::int64_t cols : odd_sizes)
      for (int form = 0; form < 5; ++form) {  // layer norm and RMS norm without and with gamma, softmax
        INFO("cols " << cols << " form " << form);
        const std::int64_t rows = 80;
        Floats x = random_floats(rows * cols, 1);
        for (float& value : x) value = value * 2.0F + (form < 2 ? 1.0F : 0.0F);
        const Floats dy = random_floats(rows * cols, 2), gamma = random_floats(cols, 3);
        const Floats residual = random_floats(rows * cols, 4);
        const bool weighted = form % 2 == 1;
        const Kernel kernel = form == 4  ? softmax_gradient
                              : form < 2 ? layer_norm_gradient
                                         : rms_norm_gradient;
        const Floats got = with_threads([&](ThreadPool& pool) {
          Floats dx = dy;  // in place
          kernel(pool, {x.data(), dx.data(), dx.data(), rows, cols, weighted ? gamma.data() : nullptr, 1e-2F,
                        weighted ? residual.data() : nullptr});
          return dx;
        });
        Doubles want(x.size());
        const auto size = static_cast<double>(cols);
        for (std::int64_t i = 0; i < rows; ++i) {
          const auto value = [&](std::int64_t j) { return static_cast<double>(x[index(i * cols + j)]); };
          const auto back = [&](std::int64_t j) {
            return static_cast<double>(dy[index(i * cols + j)]) *
                   (weighted ? static_cast<double>(gamma[index(j)]) : 1.0);
          };
          double mean = 0.0, square = 0.0, shift = 0.0, along = 0.0;
          for (std::int64_t j = 0; form < 2 && j < cols; ++j) {
            mean += value(j) / size;
            shift += back(j) / size;
          }
          for (std::int64_t j = 0; j < cols; ++j) {
            square += (value(j) - mean) * (value(j) - mean) / size;
            along += back(j) * (value(j) - mean) / (form == 4 ? 1.0 : size);
          }
          const double scale = std::sqrt(square + 1e-2);
          for (std::int64_t j = 0; j < cols; ++j)
            want[index(i * cols + j)] =
                form == 4 ? value(j) * (back(j) - along)
                          : (back(j) - shift - (value(j) - mean) * along / (scale * scale)) / scale +
                                (weighted ? static_cast<double>(residual[index(i * cols + j)]) : 0.0);
        }
        check_close(got, want, 5e-5);
      }
  });
}

TEST_CASE("cross entropy and its gradient") {
  on_every_isa([] {
    for (const std::int64_t cols : odd_sizes) {
      INFO("cols " << cols);
      const std::int64_t rows = 90;
      Floats x = random_floats(rows * cols, 1);
      for (float& value : x) value *= 9.0F;
      const std::vector<std::int32_t> labels = labels_for(rows, cols);
      const Floats dy = random_floats(rows, 2);
      CrossEntropyCall call{.logits = x.data(), .labels = labels.data(), .rows = rows, .cols = cols};
      const Floats losses = with_threads([&](ThreadPool& pool) {
        Floats y(index(rows));
        CrossEntropyCall now = call;
        now.y = y.data();
        cross_entropy(pool, now);
        return y;
      });
      const Floats gradient = with_threads([&](ThreadPool& pool) {
        Floats y = x;  // in place
        CrossEntropyCall now = call;
        now.logits = now.y = y.data();
        now.dy = dy.data();
        cross_entropy(pool, now);
        return y;
      });
      Doubles want_losses, want_gradient;
      for (std::int64_t i = 0; i < rows; ++i) {
        const float* row = x.data() + i * cols;
        const std::int32_t label = labels[index(i)];
        const double total = log_sum(row, cols);
        want_losses.push_back(label < 0 ? 0.0 : total - static_cast<double>(row[label]));
        for (std::int64_t j = 0; j < cols; ++j)
          want_gradient.push_back(
              label < 0 ? 0.0
                        : (std::exp(static_cast<double>(row[j]) - total) - (j == label ? 1.0 : 0.0)) *
                              static_cast<double>(dy[index(i)]));
      }
      check_close(losses, want_losses, 1e-5);
      check_close(gradient, want_gradient, 1e-5);
    }
  });
  ThreadPool pool(1);
  const Floats x(6);
  const std::int32_t labels[] = {1, 3};
  Floats y(2);
  CHECK_THROWS_WITH_AS(
      cross_entropy(pool, {.logits = x.data(), .labels = labels, .y = y.data(), .rows = 2, .cols = 3}),
      "cross_entropy: label 3 (element 1 of labels) is none of the 3 classes and not ignore_index -100",
      Error);
}

TEST_CASE("sums over an axis") {
  on_every_isa([] {
    for (const std::int64_t size : odd_sizes)
      for (const std::int64_t inner : {1, 3, 50, 200})
        for (const std::int64_t outer : {1, 4}) {
          INFO("outer " << outer << " size " << size << " inner " << inner);
          const Floats x = random_floats(outer * size * inner, 1);
          const Floats got = with_threads([&](ThreadPool& pool) {
            Floats y(index(outer * inner));
            sum(pool, {x.data(), y.data(), outer, size, inner, 0.5F});
            return y;
          });
          Doubles want(got.size());
          for (std::int64_t i = 0; i < std::ssize(x); ++i)
            want[index(i / inner / size * inner + i % inner)] += 0.5 * static_cast<double>(x[index(i)]);
          check_close(got, want, 1e-5);
        }
  });
}

TEST_CASE("the largest over an axis") {
  on_every_isa([] {
    for (const std::int64_t size : odd_sizes)
      for (const std::int64_t inner : {1, 3, 50})
        for (const bool with_nan : {false, true}) {
          INFO("size " << size << " inner " << inner << " NaN " << with_nan);
          Floats x = random_floats(2 * size * inner, 1);
          if (with_nan) x[index(size / 2 * inner)] = not_a_number;
          const Floats got = with_threads([&](ThreadPool& pool) {
            Floats y(index(2 * inner));
            largest(pool, {x.data(), y.data(), 2, size, inner});
            return y;
          });
          Doubles want(got.size(), -static_cast<double>(infinity));
          for (std::int64_t i = 0; i < std::ssize(x); ++i) {
            double& most = want[index(i / inner / size * inner + i % inner)];
            const auto value = static_cast<double>(x[index(i)]);
            if (!(most >= value) && !std::isnan(most)) most = value;
          }
          check_close(got, want, 0.0);
        }
  });
}

TEST_CASE("select takes from either side, whatever is broadcast") {
  const std::int64_t rows = 70, cols = 65;
  const Floats a = random_floats(rows * cols, 1), b = random_floats(rows, 2);
  std::vector<std::uint8_t> where(index(cols));
  for (std::int64_t j = 0; j < cols; ++j) where[index(j)] = j % 3 == 0 ? 1 : 0;
  const Floats got = with_threads([&](ThreadPool& pool) {
    Floats y(a.size());
    select(pool, {.where = where.data(),
                  .a = a.data(),
                  .b = b.data(),
                  .y = y.data(),
                  .rows = rows,
                  .cols = cols,
                  .a_row = cols,
                  .b_row = 1,
                  .b_col = 0});
    return y;
  });
  for (std::int64_t i = 0; i < rows * cols; ++i)
    REQUIRE(got[index(i)] == (where[index(i % cols)] != 0 ? a[index(i)] : b[index(i / cols)]));
}

TEST_CASE("rows are added to a table, also twice to one") {
  const std::int64_t k = 37;
  const std::vector<std::int32_t> ids = {4, 0, 4};
  const Floats from = random_floats(3 * k, 1), before = random_floats(5 * k, 2);
  const Floats got = with_threads([&](ThreadPool& pool) {
    Floats table = before;
    scatter_add_rows(pool, from.data(), ids, table.data(), 5, k);
    return table;
  });
  Doubles want(before.begin(), before.end());
  for (std::int64_t i = 0; i < 3 * k; ++i)
    want[index(ids[index(i / k)] * k + i % k)] += static_cast<double>(from[index(i)]);
  check_close(got, want, 1e-6);
  ThreadPool pool(1);
  Floats table = before;
  CHECK_THROWS_WITH_AS(scatter_add_rows(pool, from.data(), ids, table.data(), 4, k),
                       "scatter: index 4 at position 0 is outside the table of 4 rows", Error);
}

TEST_CASE("AdamW and the sum of squares") {
  on_every_isa([] {
    for (const std::int64_t count : {1, 37, 4096, 9001}) {
      INFO("count " << count);
      const Floats w = random_floats(count, 1), g = random_floats(count, 2), m = random_floats(count, 3);
      Floats v = random_floats(count, 4);
      for (float& value : v) value *= value;
      const Floats got = with_threads([&](ThreadPool& pool) {
        Floats all = w;
        for (const Floats* part : {&g, &m, static_cast<const Floats*>(&v)})
          all.insert(all.end(), part->begin(), part->end());
        AdamwCall call{.w = all.data(),
                       .g = all.data() + count,
                       .m = all.data() + 2 * count,
                       .v = all.data() + 3 * count,
                       .count = count,
                       .scale = 0.5F,
                       .beta1 = 0.9F,
                       .beta2 = 0.99F,
                       .keep = 0.97F,
                       .size = 0.1F,
                       .root = 2.0F,
                       .epsilon = 1e-3F};
        adamw(pool, call);
        return all;
      });
      Doubles want(got.size());
      double squares = 0.0;
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double dw = 0.5 * static_cast<double>(g[i]);
        const double first = 0.9 * static_cast<double>(m[i]) + 0.1 * dw;
        const double second = 0.99 * static_cast<double>(v[i]) + 0.01 * dw * dw;
        want[i] = static_cast<double>(w[i]) * 0.97 - 0.1 * first / (std::sqrt(second) * 2.0 + 1e-3);
        want[w.size() + i] = static_cast<double>(g[i]);  // as it was
        want[2 * w.size() + i] = first;
        want[3 * w.size() + i] = second;
        squares += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      }
      check_close(got, want, 1e-5);
      const Floats sum = with_threads(
          [&](ThreadPool& pool) { return Floats{static_cast<float>(square_sum(pool, g.data(), count))}; });
      check_close(sum, {squares}, 1e-5);
    }
    ThreadPool pool(1);
    const Floats large(5000, 1e20F);  // their squares are no floats
    CHECK(square_sum(pool, large.data(), 5000) == doctest::Approx(5e43));
    const Floats bad = {1.0F, not_a_number};
    CHECK(std::isnan(square_sum(pool, bad.data(), 2)));
  });
}
