#include "cpu/attention_gradient.h"

#include "orion/error.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace orion::cpu {
namespace {

using Call = AttentionGradientCall;

constexpr std::int64_t most_rows = 64;  // queries at once
constexpr std::size_t alignment = 64;

std::size_t aligned(std::int64_t floats) {
  return (static_cast<std::size_t>(floats) * sizeof(float) + alignment - 1) / alignment * alignment;
}

// The products inside run on the thread that calls them.
ThreadPool& alone() {
  static ThreadPool pool(1);
  return pool;
}

std::int64_t block_rows(const Call& c) {
  return std::min(c.t, most_rows);
}

std::size_t product_scratch(const Call& c) {
  const std::int64_t rows = block_rows(c), width = std::max(c.d, c.e);
  std::size_t most = 0;
  for (const GemmCall& product :
       {GemmCall{.m = rows, .n = c.s, .k = width}, GemmCall{.m = c.s, .n = width, .k = rows},
        GemmCall{.m = rows, .n = width, .k = c.s}})
    most = std::max(most, gemm_scratch(product, 1));
  return most;
}

// Of one worker.
struct Memory {
  float* weights;   // (rows, seen)
  float* dweights;  // the same
  float* query;     // (rows, D), scaled
  std::span<std::byte> product;

  static std::size_t bytes(const Call& c) {
    const std::int64_t rows = block_rows(c);
    return 2 * aligned(rows * c.s) + aligned(rows * c.d) +
           (product_scratch(c) + alignment - 1) / alignment * alignment;
  }
  Memory(const Call& c, std::byte* at) {
    const auto take = [&](std::size_t size) { return std::exchange(at, at + size); };
    const std::int64_t rows = block_rows(c);
    weights = reinterpret_cast<float*>(take(aligned(rows * c.s)));
    dweights = reinterpret_cast<float*>(take(aligned(rows * c.s)));
    query = reinterpret_cast<float*>(take(aligned(rows * c.d)));
    product = {at, product_scratch(c)};
  }
};

// Queries [first, first + rows) of one head, and the keys [0, seen) that any of them sees.
struct Block {
  const Call& call;
  const Memory& memory;
  std::int64_t head;      // of all B H
  std::int64_t key_head;  // of all B G
  std::int64_t first, rows, seen;

  std::int64_t visible(std::int64_t row) const {
    return call.causal ? std::min(seen, first + row + 1) : seen;
  }
  template <class T>
  T* queries(T* base, std::int64_t width) const {
    return base + (head * call.t + first) * width;
  }
  template <class T>
  T* keys(T* base, std::int64_t width) const {
    return base + key_head * call.s * width;
  }

  // (rows, seen) = x (rows, width) y (seen, width)^T
  void against_keys(const float* x, const float* y, std::int64_t width, float* to) const {
    multiply({.m = rows,
              .n = seen,
              .k = width,
              .a = x,
              .a_row = width,
              .b = y,
              .b_row = 1,
              .b_col = width,
              .c = to,
              .c_row = seen});
  }
  // to (seen, width) += x (rows, seen)^T y (rows, width)
  void add_to_keys(const float* x, const float* y, std::int64_t width, float* to) const {
    multiply({.m = seen,
              .n = width,
              .k = rows,
              .a = x,
              .a_row = 1,
              .a_col = seen,
              .b = y,
              .b_row = width,
              .c = to,
              .c_row = width,
              .epilogue = {.residual = to}});
  }
  void multiply(const GemmCall& product) const { gemm(alone(), product, memory.product); }

  // One row after the other, over the keys that it sees; the others get 0.
  template <class Kernel>
  void on_rows(float* values, const Kernel& kernel) const {
    for (std::int64_t i = 0; i < rows; ++i) {
      kernel(i * seen, visible(i));
      std::fill(values + i * seen + visible(i), values + (i + 1) * seen, 0.0F);
    }
  }

  void weigh() const {
    const float* query = queries(call.q, call.d);
    std::transform(query, query + rows * call.d, memory.query, [&](float x) { return x * call.scale; });
    against_keys(memory.query, keys(call.k, call.d), call.d, memory.weights);
    on_rows(memory.weights, [&](std::int64_t at, std::int64_t count) {
      float* row = memory.weights + at;
      softmax(alone(), {.x = row, .y = row, .rows = 1, .cols = count});
    });
  }

  // Of the scores, from those of the weights.
  void weigh_back() const {
    against_keys(queries(call.dy, call.e), keys(call.v, call.e), call.e, memory.dweights);
    on_rows(memory.dweights, [&](std::int64_t at, std::int64_t count) {
      float* row = memory.dweights + at;
      softmax_gradient(alone(), {.x = memory.weights + at, .dy = row, .dx = row, .rows = 1, .cols = count});
    });
  }

  void of_query() const {
    float* dq = queries(call.dq, call.d);
    multiply({.m = rows,
              .n = call.d,
              .k = seen,
              .a = memory.dweights,
              .a_row = seen,
              .b = keys(call.k, call.d),
              .b_row = call.d,
              .c = dq,
              .c_row = call.d});
    std::transform(dq, dq + rows * call.d, dq, [&](float x) { return x * call.scale; });
  }

  void run() const {
    weigh();
    if (call.dv != nullptr)
      add_to_keys(memory.weights, queries(call.dy, call.e), call.e, keys(call.dv, call.e));
    if (call.dq == nullptr && call.dk == nullptr) return;
    weigh_back();
    if (call.dk != nullptr) add_to_keys(memory.dweights, memory.query, call.d, keys(call.dk, call.d));
    if (call.dq != nullptr) of_query();
  }
};

void key_head_gradient(const Call& c, const Memory& memory, std::int64_t key_head) {
  if (c.dk != nullptr) std::fill_n(c.dk + key_head * c.s * c.d, c.s * c.d, 0.0F);
  if (c.dv != nullptr) std::fill_n(c.dv + key_head * c.s * c.e, c.s * c.e, 0.0F);
  const std::int64_t shared = c.h / c.g;
  for (std::int64_t head = key_head * shared; head < (key_head + 1) * shared; ++head)
    for (std::int64_t first = 0; first < c.t; first += most_rows) {
      const std::int64_t rows = std::min(most_rows, c.t - first);
      const std::int64_t seen = c.causal ? std::min(c.s, first + rows) : c.s;
      Block{c, memory, head, key_head, first, rows, seen}.run();
    }
}

}  // namespace

std::size_t attention_gradient_scratch(const AttentionGradientCall& call, int threads) {
  return alignment + static_cast<std::size_t>(threads) * Memory::bytes(call);
}

void attention_gradient(ThreadPool& pool, const AttentionGradientCall& call, std::span<std::byte> scratch) {
  void* start = scratch.data();
  std::size_t left = scratch.size();
  auto* memory = static_cast<std::byte*>(
      std::align(alignment, static_cast<std::size_t>(pool.size()) * Memory::bytes(call), start, left));
  if (memory == nullptr)
    fail("attention_gradient: the scratch memory is too small for ", pool.size(), " threads");
  const std::int64_t heads = call.b * call.g;
  const std::int64_t each = (heads + pool.size() - 1) / pool.size();
  pool.split(heads, each, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t head = begin; head < end; ++head)
      key_head_gradient(
          call, Memory(call, memory + static_cast<std::size_t>(begin / each) * Memory::bytes(call)), head);
  });
}

}  // namespace orion::cpu
