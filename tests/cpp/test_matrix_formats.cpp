// Products with matrices in bfloat16 and in groups of 8 and 4 bits, on every instruction set. Where numbers
// are chosen so that nothing rounds, results are exact.
#include "base/f16.h"
#include "kernel_bench.h"

#include <doctest/doctest.h>

using namespace orion;
using namespace orion::cpu;

namespace {

constexpr MatrixFormat formats[] = {MatrixFormat::bf16, MatrixFormat::int8, MatrixFormat::int4};

// Whether a product of m rows rounds its activations to 127 levels in groups.
bool rounds_to_levels(MatrixFormat format, std::int64_t m) {
  const bool few = m <= kernels().most_integer_rows;
  if (format == MatrixFormat::int8) return m <= 4 || (few && kernels().multiplies_bytes);
  return format == MatrixFormat::int4 && (m <= 4 || (few && kernels().multiplies_nibbles));
}

Floats rounded_to_levels(Floats x, std::int64_t rows, std::int64_t cols) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t k = 0; k < cols; k += group_inputs) {
      const std::span group(&x[index(i * cols + k)], index(std::min(group_inputs, cols - k)));
      float most = 0.0F;
      for (const float value : group) most = std::max(most, std::fabs(value));
      for (float& value : group)
        value = static_cast<float>(std::nearbyint(static_cast<double>(value) * (127.0F / most))) *
                (most / 127.0F);
    }
  return x;
}

// Whole numbers up to `most`, which every group of 32 begins with (with that sign), times `step`: rounding to
// that many levels changes nothing.
Floats levels(std::int64_t rows, std::int64_t cols, int most, float first, float step, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int> level(-most + 1, most - 1);
  Floats values(index(rows * cols));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      values[index(i * cols + j)] =
          step * (j % group_inputs == 0 ? first : static_cast<float>(level(generator)));
  return values;
}

Floats exact_weights(MatrixFormat format, std::int64_t n, std::int64_t k) {
  if (format == MatrixFormat::int8) return levels(n, k, 127, -127.0F, 0.03125F, 2);
  if (format == MatrixFormat::int4) return levels(n, k, 8, -8.0F, 0.25F, 2);
  return levels(n, k, 127, 127.0F, 0.5F, 2);
}

Floats linear_of(ThreadPool& pool, const PackedMatrix& w, const Floats& x, std::int64_t m,
                 bool transposed = false) {
  Floats y(index(m * w.panels.n), not_a_number);
  LinearCall call{.x = x.data(),
                  .m = m,
                  .x_row = w.panels.k,
                  .w = w.panels,
                  .y = y.data(),
                  .y_row = w.panels.n,
                  .epilogue = {}};
  if (transposed) {
    call.x_row = 1;
    call.x_col = m;
  }
  std::vector<std::byte> scratch(linear_scratch(call, pool.size()));
  linear(pool, call, scratch);
  return y;
}

Floats transpose_of(const Floats& x, std::int64_t rows, std::int64_t cols) {
  Floats t(x.size());
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) t[index(j * rows + i)] = x[index(i * cols + j)];
  return t;
}

void check_exact(MatrixFormat format, const Floats& x, const Floats& w, std::int64_t m, std::int64_t n,
                 std::int64_t k) {
  INFO(matrix_format_name(format) << " m " << m << " n " << n << " k " << k);
  const Doubles want = product(x, w, m, n, k);
  for (const bool transposed : {false, true}) {
    const Floats given = transposed ? transpose_of(x, m, k) : x;
    const Floats got = with_threads([&](ThreadPool& pool) {
      const PackedMatrix packed(pool, format, w, n, k);
      CHECK(packed.unpacked(pool) == w);
      return linear_of(pool, packed, given, m, transposed);
    });
    check_close(got, want, 2e-6);
  }
}

void check_exact(MatrixFormat format, std::int64_t m, std::int64_t n, std::int64_t k) {
  check_exact(format, levels(m, k, 127, 127.0F, 0.5F, 1), exact_weights(format, n, k), m, n, k);
}

}  // namespace

TEST_CASE("matrix formats: products of numbers that no format rounds") {
  on_every_isa([] {
    for (const MatrixFormat format : formats) {
      for (const std::int64_t m : {1, 2, 3, 4, 5, 15, 33}) check_exact(format, m, 37, 70);
      for (const std::int64_t n : odd_sizes) check_exact(format, 1, n, 33);
      for (const std::int64_t k : odd_sizes) {
        check_exact(format, 2, 40, k);
        check_exact(format, 7, 40, k);
      }
      check_exact(format, 3, 65, 777);
      check_exact(format, 310, 33, 517);
      check_exact(format, 130, 3, 4500);  // more rows than are rounded at once
    }
  });
}

TEST_CASE("matrix formats: the largest sums that groups can have fit") {
  constexpr std::int64_t n = 37, k = 2 * group_inputs;
  on_every_isa([] {
    for (const MatrixFormat format : formats)
      for (const float sign : {-1.0F, 1.0F})
        for (const std::int64_t m : {1, 2, 4, 13}) {
          Floats w(index(n * k), format == MatrixFormat::int4 ? 7.0F : 127.0F);
          for (std::int64_t i = 0; i < n * k; i += group_inputs)
            w[index(i)] = format == MatrixFormat::int4 ? -8.0F : -127.0F;
          check_exact(format, Floats(index(m * k), sign * 127.0F), w, m, n, k);
        }
  });
}

TEST_CASE("matrix formats: rounding is to the nearest level") {
  ThreadPool pool(1);
  const std::int64_t n = 33, k = 100;
  const Floats w = random_floats(n * k, 5);
  on_every_isa([&] {
    CHECK(PackedMatrix(pool, MatrixFormat::bf16, w, n, k).unpacked(pool) == rounded(w));
    for (const auto& [format, most] : {std::pair(MatrixFormat::int8, 127.0), {MatrixFormat::int4, 8.0}}) {
      const Floats got = PackedMatrix(pool, format, w, n, k).unpacked(pool);
      double squares = 0.0;
      for (std::size_t i = 0; i < w.size(); ++i)
        squares += std::pow(static_cast<double>(got[i]) - static_cast<double>(w[i]), 2.0);
      // Even numbers in steps of 1 / most lose a step^2 / 12 on average.
      CHECK(std::sqrt(squares / static_cast<double>(w.size())) < 1.0 / most / std::sqrt(12.0));
    }
  });
}

TEST_CASE("matrix formats: every instruction set packs the same bytes") {
  ThreadPool pool(1);
  const Floats w = random_floats(45 * 67, 6);
  for (const MatrixFormat format : formats) {
    std::vector<std::vector<std::byte>> packed;
    on_every_isa([&] { packed.push_back(PackedMatrix(pool, format, w, 45, 67).memory); });
    for (const auto& memory : packed) CHECK(memory == packed.front());
  }
}

TEST_CASE("matrix formats: activations are rounded to 127 levels or to bfloat16") {
  const std::int64_t n = 40;
  on_every_isa([&] {
    for (const MatrixFormat format : formats)
      for (const auto& [m, k] :
           {std::pair{1, 103}, {4, 103}, {5, 103}, {9, 103}, {26, 103}, {40, 103}, {40, 3100}}) {
        INFO(matrix_format_name(format) << " m " << m << " k " << k);
        const Floats w = random_floats(n * k, 3);
        ThreadPool pool(1);
        const Floats x = random_floats(m * k, 4);
        const PackedMatrix packed(pool, format, w, n, k);
        const Floats got = linear_of(pool, packed, x, m);
        const Floats used = rounds_to_levels(format, m) ? rounded_to_levels(x, m, k) : rounded(x);
        const Floats kept = packed.unpacked(pool);
        const bool pairs = kernels().dots_pairs && !rounds_to_levels(format, m);
        check_close(got, product(used, pairs ? rounded(kept) : kept, m, n, k), k > 1000 ? 1e-4 : 1e-5);
        const Floats tiny(x.size(), 1e-39F);  // the inverse of their scale is infinite
        for (const float y : linear_of(pool, packed, tiny, m)) CHECK(std::fabs(y) < 1e-36F);
      }
  });
}

TEST_CASE("matrix formats: a row of integer products is the same among many and alone") {
  ThreadPool pool(2);
  const std::int64_t m = 13, n = 40, k = 1100;  // more groups than a block
  const Floats w = random_floats(n * k, 3), x = random_floats(m * k, 4);
  on_every_isa([&] {
    for (const MatrixFormat format : {MatrixFormat::int8, MatrixFormat::int4}) {
      if (!rounds_to_levels(format, m)) continue;
      const PackedMatrix packed(pool, format, w, n, k);
      const Floats many = linear_of(pool, packed, x, m);
      for (std::int64_t i = 0; i < m; ++i) {
        const Floats row(x.begin() + i * k, x.begin() + (i + 1) * k);
        CHECK(linear_of(pool, packed, row, 1) == Floats(many.begin() + i * n, many.begin() + (i + 1) * n));
      }
    }
  });
}

TEST_CASE("matrix formats: what comes of activations that are not finite is not finite") {
  ThreadPool pool(1);
  const std::int64_t n = 34, k = 64;
  const Floats w = random_floats(n * k, 3);
  on_every_isa([&] {
    for (const MatrixFormat format : formats)
      for (const std::int64_t m : {1, 3, 6, 40})
        for (const float bad : {not_a_number, infinity}) {
          Floats x = random_floats(m * k, 4);
          x[5] = bad;
          const Floats y = linear_of(pool, PackedMatrix(pool, format, w, n, k), x, m);
          CHECK_FALSE(std::isfinite(y[0]));
          if (m > 1) CHECK(std::isfinite(y[index(n)]));
        }
  });
}

TEST_CASE("matrix formats: rows of a table are read from its panels") {
  ThreadPool pool(2);
  const std::int64_t n = 35, k = 50;
  const Floats w = random_floats(n * k, 3);
  const std::vector<std::int32_t> ids = {34, 0, 7, 7};
  for (const MatrixFormat format : formats) {
    const PackedMatrix packed(pool, format, w, n, k);
    const Floats all = packed.unpacked(pool);
    Floats rows(ids.size() * index(k));
    gather_rows(pool, packed.panels, ids, rows.data());
    for (std::size_t i = 0; i < rows.size(); ++i)
      CHECK(rows[i] == all[index(ids[i / index(k)]) * index(k) + i % index(k)]);
  }
}

TEST_CASE("gemm: exact, and with both operands rounded to bfloat16, in every layout") {
  struct Case {
    std::int64_t m, n, k;
  };
  const auto check = [](const Case& c, bool bf16, bool a_turned, bool b_turned) {
    const auto& [m, n, k] = c;
    INFO("m " << m << " n " << n << " k " << k << " turned " << a_turned << b_turned << " bf16 " << bf16);
    const Floats a = random_floats(m * k, 1), b = random_floats(n * k, 2);
    const Floats a_memory = a_turned ? transpose_of(a, m, k) : a;
    const Floats b_memory = b_turned ? b : transpose_of(b, n, k);
    GemmCall call{.m = m,
                  .n = n,
                  .k = k,
                  .a = a_memory.data(),
                  .a_row = a_turned ? 1 : k,
                  .a_col = a_turned ? m : 1,
                  .b = b_memory.data(),
                  .b_row = b_turned ? 1 : n,
                  .b_col = b_turned ? k : 1,
                  .c_row = n,
                  .bf16 = bf16};
    const Floats got = with_threads([&](ThreadPool& pool) {
      Floats result(index(m * n));
      call.c = result.data();
      std::vector<std::byte> scratch(gemm_scratch(call, pool.size()));
      gemm(pool, call, scratch);
      return result;
    });
    check_close(got, product(bf16 ? rounded(a) : a, bf16 ? rounded(b) : b, m, n, k), 1e-5);
  };
  on_every_isa([&] {
    for (const Case& c : {Case{1, 1, 1}, Case{5, 33, 3}, Case{17, 40, 65}, Case{31, 70, 301},
                          Case{305, 70, 33}, Case{700, 65, 21}})  // with 300 rows b is packed first
      for (int layout = 0; layout < 8; ++layout)
        check(c, (layout & 1) != 0, (layout & 2) != 0, (layout & 4) != 0);
  });
}
