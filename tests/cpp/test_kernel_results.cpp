// Where kernels put their results, floats or bfloat16, in the caches or past them, makes no difference to the
// numbers; nor does it where a product's left operand is bfloat16 already.
#include "cpu/far_cores.h"
#include "kernel_bench.h"

#include <doctest/doctest.h>

using namespace orion;
using namespace orion::cpu;

namespace {

// Memory for a result, one of the two.
struct Place {
  float* floats;
  std::uint16_t* rounded;
};

using Kernel = std::function<void(ThreadPool&, const Place&)>;

// Results are aligned to lines, as in a program.
Floats floats_of(std::int64_t count, const Kernel& kernel) {
  return with_threads([&](ThreadPool& pool) {
    const Tensor y({DType::fp32, {count}});
    std::ranges::fill(y.as<float>(), 9.0F);
    kernel(pool, {y.as<float>().data(), nullptr});
    return Floats(y.as<float>().begin(), y.as<float>().end());
  });
}

Floats bfloats_of(std::int64_t count, const Kernel& kernel) {
  return with_threads([&](ThreadPool& pool) {
    const Tensor y({DType::fp16, {count}});
    kernel(pool, {nullptr, y.as<std::uint16_t>().data()});
    Floats result;
    for (const std::uint16_t value : y.as<std::uint16_t>()) result.push_back(bfloat_to_float(value));
    return result;
  });
}

void check_same(const Floats& got, const Floats& want) {
  REQUIRE(got.size() == want.size());
  CHECK(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0);
}

// All ways to put a result of so many numbers; returns it.
Floats check_places(std::int64_t count, const Kernel& kernel, bool can_round = true) {
  assume_cores_are_far(false);
  const Floats want = floats_of(count, kernel);
  for (const bool far : {false, true}) {
    INFO("far " << far);
    assume_cores_are_far(far);
    check_same(floats_of(count, kernel), want);
    if (can_round) check_same(bfloats_of(count, kernel), rounded(want));
  }
  assume_cores_are_far(std::nullopt);
  return want;
}

constexpr Activation activations[] = {Activation::none, Activation::silu, Activation::gelu_tanh};

}  // namespace

TEST_CASE("results of products with packed weights") {
  ThreadPool one(1);
  on_every_isa([&] {
    for (const MatrixFormat format : {MatrixFormat::exact, MatrixFormat::bf16, MatrixFormat::int8})
      for (const std::int64_t n : {6, 50, 64, 160})
        for (const std::int64_t k : {2, 64, 770})
          for (const Activation activation : activations) {
            const std::int64_t m = 70;
            INFO("n " << n << " k " << k << " in " << matrix_format_name(format));
            const PackedMatrix w(one, format, random_floats(n * k, 2), n, k);
            const Floats x = random_floats(m * k, 1), more = random_floats(m * n, 3);
            const std::vector<std::uint16_t> x_bits = bits_of(x);
            LinearCall call{.x = x.data(), .m = m, .x_row = k, .w = w.panels, .y_row = n, .epilogue = {}};
            call.epilogue = {more.data(), activation, nullptr, more.data()};
            if (activation == Activation::silu) call.epilogue = {nullptr, activation, more.data(), nullptr};
            const Kernel run = [&](ThreadPool& pool, const Place& y) {
              LinearCall now = call;
              now.y = y.floats;
              now.rounded = y.rounded;
              std::vector<std::byte> scratch(linear_scratch(now, pool.size()));
              linear(pool, now, scratch);
            };
            const Floats want = check_places(m * n, run);
            if (!rounds_to_bfloat(call)) continue;
            call.x = nullptr;
            call.x_rounded = x_bits.data();
            check_same(check_places(m * n, run), want);
          }
  });
}

TEST_CASE("results of products with matrices given at run time") {
  on_every_isa([] {
    for (const std::int64_t n : {6, 64, 300})
      for (const std::int64_t k : {2, 64, 770})
        for (const bool b_turned : {false, true}) {
          const std::int64_t m = 70;
          INFO("n " << n << " k " << k << " turned " << b_turned);
          const Floats a = random_floats(m * k, 1), b = random_floats(k * n, 2);
          const std::vector<std::uint16_t> a_bits = bits_of(a);
          GemmCall call{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .b = b.data()};
          call.b_row = b_turned ? 1 : n;
          call.b_col = b_turned ? k : 1;
          call.c_row = n;
          call.bf16 = true;
          const Kernel run = [&](ThreadPool& pool, const Place& c) {
            GemmCall now = call;
            now.c = c.floats;
            now.rounded = c.rounded;
            std::vector<std::byte> scratch(gemm_scratch(now, pool.size()));
            gemm(pool, now, scratch);
          };
          const Floats want = check_places(m * n, run);
          call.a = nullptr;
          call.a_rounded = a_bits.data();
          check_same(check_places(m * n, run), want);
        }
  });
}

TEST_CASE("results of norms") {
  on_every_isa([] {
    for (const std::int64_t cols : {2, 14, 34, 64, 768})
      for (const auto kernel : {layer_norm, rms_norm}) {
        INFO("cols " << cols);
        const std::int64_t rows = 90;
        const Floats x = random_floats(rows * cols, 1), gamma = random_floats(cols, 2);
        check_places(rows * cols, [&](ThreadPool& pool, const Place& y) {
          kernel(pool, {.x = x.data(),
                        .y = y.floats,
                        .rows = rows,
                        .cols = cols,
                        .gamma = gamma.data(),
                        .epsilon = 1e-5F,
                        .rounded = y.rounded});
        });
      }
  });
}

TEST_CASE("results of rotary positions") {
  on_every_isa([] {
    for (const std::int64_t d : {12, 32, 40, 64}) {
      INFO("d " << d);
      const std::int64_t h = 3, t = 60;
      const Floats x = random_floats(h * t * d, 1), angles = random_floats(t * d / 2, 2);
      check_places(
          h * t * d,
          [&](ThreadPool& pool, const Place& y) {
            rope(pool, {x.data(), y.floats, 1, h, t, d, tokens_first(h, t, d), dense_rows(h, t, d),
                        angles.data(), angles.data(), 0, d / 2, false, false});
          },
          false);
    }
  });
}

TEST_CASE("results of attention") {
  on_every_isa([] {
    for (const std::int64_t size : {2, 20, 32, 64})
      for (const bool bf16 : {false, true}) {
        INFO("size " << size << " bf16 " << bf16);
        const std::int64_t h = 4, t = 70;
        const Floats q = random_floats(h * t * size, 1), k = random_floats(h * t * size, 2);
        check_places(h * t * size, [&](ThreadPool& pool, const Place& y) {
          const AttentionCall call{.q = q.data(),
                                   .q_rows = dense_rows(h, t, size),
                                   .k = k.data(),
                                   .k_rows = dense_rows(h, t, size),
                                   .v = k.data(),
                                   .v_rows = dense_rows(h, t, size),
                                   .y = y.floats,
                                   .y_rows = tokens_first(h, t, size),
                                   .b = 1,
                                   .h = h,
                                   .g = h,
                                   .t = t,
                                   .s = t,
                                   .d = size,
                                   .dv = size,
                                   .bf16 = bf16,
                                   .causal = true,
                                   .rounded = y.rounded};
          attend(pool, call);
        });
      }
  });
}

TEST_CASE("cores are near or far, whoever asks") {
  ThreadPool one(1), three(3);
  CHECK_FALSE(cores_are_far(one));
  cores_are_far(three);
  three.split(3, 1, [&](std::int64_t, std::int64_t) { cores_are_far(three); });  // does not wait for itself
  assume_cores_are_far(true);
  CHECK(cores_are_far(one));
  assume_cores_are_far(std::nullopt);
  CHECK_FALSE(cores_are_far(one));
}
