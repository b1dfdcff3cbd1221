#include "cpu/attention_gradient.h"

#include "cpu/kernel_work.h"

#include <algorithm>

namespace orion::cpu {
namespace {

using Call = AttentionGradientCall;

constexpr std::int64_t most_rows = 64;  // queries at once

// The products inside run on the thread that calls them.
ThreadPool& alone() {
  static ThreadPool pool(1);
  return pool;
}

std::int64_t block_rows(const Call& c) {
  return std::min(c.t, most_rows);
}

/// Queries that are worked on together, and the keys [0, seen) that any of them sees.
struct Rows {
  std::int64_t first, rows, seen;
};

template <class F>
void for_blocks(const Call& c, const F& f) {
  for (std::int64_t first = 0; first < c.t; first += most_rows) {
    const std::int64_t rows = std::min(most_rows, c.t - first);
    f(Rows{first, rows, c.causal ? std::min(c.s, first + rows) : c.s});
  }
}

// More rows may need less, so that all blocks are asked.
std::size_t product_scratch(const Call& c) {
  std::size_t most = 0;
  for_blocks(c, [&](const Rows& block) {
    for (const std::int64_t width : {c.d, c.e})
      for (GemmCall product : {GemmCall{.m = block.rows, .n = block.seen, .k = width},
                               GemmCall{.m = block.seen, .n = width, .k = block.rows},
                               GemmCall{.m = block.rows, .n = width, .k = block.seen}}) {
        product.bf16 = c.bf16;
        most = std::max(most, gemm_scratch(product, 1));
      }
  });
  return most;
}

// Of one worker.
struct Memory {
  float* weights;   // (rows, seen)
  float* dweights;  // the same
  float* query;     // (rows, D), scaled
  std::span<std::byte> product;

  template <class From>
  Memory(const Call& c, std::size_t product_bytes, From& scratch)
      : weights(scratch.take_floats(block_rows(c) * c.s)),
        dweights(scratch.take_floats(block_rows(c) * c.s)),
        query(scratch.take_floats(block_rows(c) * c.d)),
        product(scratch.take(aligned_bytes(product_bytes)), product_bytes) {}
  static std::size_t bytes(const Call& c, std::size_t product_bytes) {
    ScratchSize size;
    const Memory memory(c, product_bytes, size);
    return size.bytes();
  }
};

// Rows of numbers that lie side by side, `row` apart.
template <class T>
struct Matrix {
  T* data;
  std::int64_t row;
};

// Some queries of one head.
struct Block : Rows {
  const Call& call;
  const Memory& memory;
  std::int64_t batch, head, key_head;

  std::int64_t visible(std::int64_t row) const {
    return call.causal ? std::min(seen, first + row + 1) : seen;
  }
  template <class T>
  Matrix<T> queries(T* base, const HeadRows& at) const {
    return {base + at.at(batch, head, first), at.t};
  }
  template <class T>
  Matrix<T> keys(T* base, const HeadRows& at) const {
    return {base + at.at(batch, key_head, 0), at.t};
  }

  // (rows, seen) = x (rows, width) y (seen, width)^T
  void against_keys(Matrix<const float> x, Matrix<const float> y, std::int64_t width, float* to) const {
    multiply({.m = rows,
              .n = seen,
              .k = width,
              .a = x.data,
              .a_row = x.row,
              .b = y.data,
              .b_row = 1,
              .b_col = y.row,
              .c = to,
              .c_row = seen});
  }
  // to (seen, width) += x (rows, seen)^T y (rows, width)
  void add_to_keys(const float* x, Matrix<const float> y, std::int64_t width, Matrix<float> to) const {
    multiply({.m = seen,
              .n = width,
              .k = rows,
              .a = x,
              .a_row = 1,
              .a_col = seen,
              .b = y.data,
              .b_row = y.row,
              .c = to.data,
              .c_row = to.row,
              .epilogue = {.residual = to.data}});
  }
  void multiply(GemmCall product) const {
    product.bf16 = call.bf16;
    gemm(alone(), product, memory.product);
  }

  // One row after the other, over the keys that it sees; the others get 0.
  template <class Kernel>
  void on_rows(float* values, const Kernel& kernel) const {
    for (std::int64_t i = 0; i < rows; ++i) {
      kernel(i * seen, visible(i));
      std::fill(values + i * seen + visible(i), values + (i + 1) * seen, 0.0F);
    }
  }

  // (rows, D) = x times the scale of the scores
  void scale_rows(Matrix<const float> x, Matrix<float> to) const {
    for (std::int64_t i = 0; i < rows; ++i) {
      const float* from = x.data + i * x.row;
      std::transform(from, from + call.d, to.data + i * to.row,
                     [&](float value) { return value * call.scale; });
    }
  }

  void weigh() const {
    scale_rows(queries(call.q, call.q_rows), {memory.query, call.d});
    against_keys({memory.query, call.d}, keys(call.k, call.k_rows), call.d, memory.weights);
    on_rows(memory.weights, [&](std::int64_t at, std::int64_t count) {
      float* row = memory.weights + at;
      softmax(alone(), {.x = row, .y = row, .rows = 1, .cols = count});
    });
  }

  // Of the scores, from those of the weights.
  void weigh_back() const {
    against_keys(queries(call.dy, call.dy_rows), keys(call.v, call.v_rows), call.e, memory.dweights);
    on_rows(memory.dweights, [&](std::int64_t at, std::int64_t count) {
      float* row = memory.dweights + at;
      softmax_gradient(alone(), {.x = memory.weights + at, .dy = row, .dx = row, .rows = 1, .cols = count});
    });
  }

  void of_query() const {
    const Matrix<const float> k = keys(call.k, call.k_rows);
    const Matrix<float> dq = queries(call.dq, call.dq_rows);
    multiply({.m = rows,
              .n = call.d,
              .k = seen,
              .a = memory.dweights,
              .a_row = seen,
              .b = k.data,
              .b_row = k.row,
              .c = dq.data,
              .c_row = dq.row});
    scale_rows({dq.data, dq.row}, dq);
  }

  void run() const {
    weigh();
    if (call.dv != nullptr)
      add_to_keys(memory.weights, queries(call.dy, call.dy_rows), call.e, keys(call.dv, call.dv_rows));
    if (call.dq == nullptr && call.dk == nullptr) return;
    weigh_back();
    if (call.dk != nullptr)
      add_to_keys(memory.dweights, {memory.query, call.d}, call.d, keys(call.dk, call.dk_rows));
    if (call.dq != nullptr) of_query();
  }
};

void clear_rows(float* to, const HeadRows& at, std::int64_t batch, std::int64_t head, std::int64_t rows,
                std::int64_t width) {
  for (std::int64_t i = 0; i < rows; ++i) std::fill_n(to + at.at(batch, head, i), width, 0.0F);
}

void key_head_gradient(const Call& c, const Memory& memory, std::int64_t batch, std::int64_t key_head) {
  if (c.dk != nullptr) clear_rows(c.dk, c.dk_rows, batch, key_head, c.s, c.d);
  if (c.dv != nullptr) clear_rows(c.dv, c.dv_rows, batch, key_head, c.s, c.e);
  const std::int64_t shared = c.h / c.g;
  for (std::int64_t head = key_head * shared; head < (key_head + 1) * shared; ++head)
    for_blocks(c, [&](const Rows& block) { Block{block, c, memory, batch, head, key_head}.run(); });
}

}  // namespace

std::size_t attention_gradient_scratch(const AttentionGradientCall& call, int threads) {
  return memory_alignment + static_cast<std::size_t>(threads) * Memory::bytes(call, product_scratch(call));
}

void attention_gradient(ThreadPool& pool, const AttentionGradientCall& call, std::span<std::byte> scratch) {
  const std::int64_t workers = pool.size();
  const std::size_t product_bytes = product_scratch(call), bytes = Memory::bytes(call, product_bytes);
  std::byte* memory = Scratch("attention_gradient", scratch).take(bytes * static_cast<std::size_t>(workers));
  share_items(pool, workers, call.b * call.g, [&](std::int64_t w, std::int64_t i) {
    const std::span own(memory + static_cast<std::size_t>(w) * bytes, bytes);
    Scratch part("attention_gradient", own);
    key_head_gradient(call, Memory(call, product_bytes, part), i / call.g, i % call.g);
  });
}

}  // namespace orion::cpu
