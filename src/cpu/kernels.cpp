// The entry points of kernels.h: work divided over threads, scratch memory handed out. Matrix products are in
// kernels_matmul.cpp.
#include "cpu/kernels.h"

#include "cpu/far_cores.h"
#include "cpu/kernel_table.h"
#include "cpu/kernel_work.h"
#include "orion/error.h"

#include <algorithm>

namespace orion::cpu {

// -- where results go -----------------------------------------------------------------------------

bool can_stream(const ResultMemory& result) {
  constexpr std::int64_t line = 64;
  const bool rounded = result.rounded != nullptr;
  const auto address =
      reinterpret_cast<std::uintptr_t>(rounded ? static_cast<const void*>(result.rounded) : result.y);
  const auto size = static_cast<std::int64_t>(rounded ? sizeof(*result.rounded) : sizeof(*result.y));
  const bool aligned = address % line == 0 && result.row * size % line == 0;
  return kernels().streams && aligned;
}

bool should_stream(ThreadPool& pool, const ResultMemory& result) {
  constexpr std::int64_t least_bytes = 16 << 10;
  const std::size_t size = result.rounded != nullptr ? sizeof(*result.rounded) : sizeof(*result.y);
  return can_stream(result) && result.count * static_cast<std::int64_t>(size) >= least_bytes &&
         cores_are_far(pool);
}

namespace {

/// The bits that say what all distances are multiples of.
std::int64_t bits_of(const HeadRows& rows) {
  return rows.b | rows.h | rows.t;
}

RowsCall streamed(ThreadPool& pool, RowsCall call) {
  call.streams = should_stream(pool, {call.y, call.rounded, call.cols, call.rows * call.cols});
  return call;
}

AttentionCall streamed(ThreadPool& pool, AttentionCall call) {
  call.streams =
      should_stream(pool, {call.y, call.rounded, bits_of(call.y_rows), call.b * call.h * call.t * call.dv});
  return call;
}

RopeCall streamed(ThreadPool& pool, RopeCall call) {
  const std::int64_t bits = bits_of(call.y_rows) | call.d / 2;  // halves are written side by side
  call.streams = should_stream(pool, {call.y, nullptr, bits, call.b * call.h * call.t * call.d});
  return call;
}

}  // namespace

// -- attention ------------------------------------------------------------------------------------

std::size_t attention_scratch(const AttentionCall& call, int threads) {
  if (call.t <= few_queries) return 0;
  return memory_alignment + static_cast<std::size_t>(threads) * aligned_bytes(kernels().attend_scratch(call));
}

void attention(ThreadPool& pool, const AttentionCall& given, std::span<std::byte> scratch) {
  const Kernels& isa = kernels();
  const AttentionCall call = streamed(pool, given);
  if (call.t <= few_queries) {
    pool.split(call.b * call.h * call.t, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t head = i / call.t;
        isa.attend_few({&call, head / call.h, head % call.h, i % call.t, 1, nullptr});
      }
    });
    return;
  }
  const std::int64_t workers = pool.size();
  const std::size_t bytes = aligned_bytes(isa.attend_scratch(call));
  std::byte* memory = Scratch("attention", scratch).take(bytes * static_cast<std::size_t>(workers));
  const std::int64_t blocks = ceil_div(call.t, query_block);
  share_items(pool, workers, call.b * call.h * blocks, [&](std::int64_t w, std::int64_t i) {
    const std::int64_t head = i / blocks;
    const std::int64_t first = i % blocks * query_block;
    isa.attend({&call, head / call.h, head % call.h, first, std::min(query_block, call.t - first),
                memory + static_cast<std::size_t>(w) * bytes});
  });
}

// -- conversion ---------------------------------------------------------------------------------

void widen(ThreadPool& pool, const std::uint16_t* from, float* to, std::int64_t count) {
  pool.split(count, elements_at_once, [&](std::int64_t begin, std::int64_t end) {
    kernels().widen(from + begin, to + begin, end - begin);
  });
}

void narrow(ThreadPool& pool, const float* from, std::uint16_t* to, std::int64_t count) {
  pool.split(count, elements_at_once, [&](std::int64_t begin, std::int64_t end) {
    kernels().narrow(from + begin, to + begin, end - begin);
  });
}

// -- rows and elements ----------------------------------------------------------------------------

namespace {

template <class Call>
void split_rows(ThreadPool& pool, const Call& call, std::int64_t rows, std::int64_t cols,
                void (*kernel)(const Call&, std::int64_t, std::int64_t)) {
  pool.split(rows, ceil_div(elements_at_once, cols),
             [&](std::int64_t begin, std::int64_t end) { kernel(call, begin, end); });
}

}  // namespace

void layer_norm(ThreadPool& pool, const RowsCall& call) {
  split_rows(pool, streamed(pool, call), call.rows, call.cols, kernels().layer_norm);
}

void rms_norm(ThreadPool& pool, const RowsCall& call) {
  split_rows(pool, streamed(pool, call), call.rows, call.cols, kernels().rms_norm);
}

void softmax(ThreadPool& pool, const RowsCall& call) {
  split_rows(pool, call, call.rows, call.cols, kernels().softmax);
}

std::int64_t argmax(const float* x, std::int64_t count) {
  return kernels().argmax(x, count);
}

void rope(ThreadPool& pool, const RopeCall& call) {
  split_rows(pool, streamed(pool, call), call.b * call.h * call.t, call.d, kernels().rope);
}

void unary(ThreadPool& pool, const UnaryCall& call) {
  split_rows(pool, call, call.count, 1, kernels().unary);
}

void binary(ThreadPool& pool, const BinaryCall& call) {
  split_rows(pool, call, call.rows, call.cols, kernels().binary);
}

// -- training -------------------------------------------------------------------------------------

void layer_norm_gradient(ThreadPool& pool, const RowsGradientCall& call) {
  split_rows(pool, call, call.rows, call.cols, kernels().layer_norm_gradient);
}

void rms_norm_gradient(ThreadPool& pool, const RowsGradientCall& call) {
  split_rows(pool, call, call.rows, call.cols, kernels().rms_norm_gradient);
}

void softmax_gradient(ThreadPool& pool, const RowsGradientCall& call) {
  split_rows(pool, call, call.rows, call.cols, kernels().softmax_gradient);
}

void cross_entropy(ThreadPool& pool, const CrossEntropyCall& call) {
  for (std::int64_t i = 0; i < call.rows; ++i)
    if (const std::int32_t label = call.labels[i]; label != call.ignored && (label < 0 || label >= call.cols))
      fail(call.dy == nullptr ? "cross_entropy" : "cross_entropy_gradient", ": label ", label, " (element ",
           i, " of labels) is none of the ", call.cols, " classes and not ignore_index ", call.ignored);
  split_rows(pool, call, call.rows, call.cols, kernels().cross_entropy);
}

namespace {

using Reduce = void (*)(const SumCall&, std::int64_t, std::int64_t);

void reduce(ThreadPool& pool, const SumCall& call, Reduce rows, Reduce columns) {
  if (call.inner == 1) return split_rows(pool, call, call.outer, call.size, rows);
  const std::int64_t grain = ceil_div(elements_at_once, call.size);
  for (std::int64_t o = 0; o < call.outer; ++o)
    pool.split(call.inner, ceil_div(grain, panel_width) * panel_width,
               [&](std::int64_t begin, std::int64_t end) {
                 columns(call, o * call.inner + begin, o * call.inner + end);
               });
}

}  // namespace

void sum(ThreadPool& pool, const SumCall& call) {
  reduce(pool, call, kernels().sum_rows, kernels().sum_columns);
}

void largest(ThreadPool& pool, const SumCall& call) {
  reduce(pool, call, kernels().largest_rows, kernels().largest_columns);
}

void select(ThreadPool& pool, const SelectCall& c) {
  pool.split(c.rows, ceil_div(elements_at_once, c.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::uint8_t* where = c.where + i * c.where_row;
      const float* a = c.a + i * c.a_row;
      const float* b = c.b + i * c.b_row;
      float* y = c.y + i * c.cols;
      for (std::int64_t j = 0; j < c.cols; ++j) {
        const float yes = a[j * c.a_col], no = b[j * c.b_col];
        y[j] = where[j * c.where_col] != 0 ? yes : no;
      }
    }
  });
}

void scatter_add_rows(ThreadPool& pool, const float* from, std::span<const std::int32_t> ids, float* table,
                      std::int64_t n, std::int64_t k) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= n)
      fail("scatter: index ", ids[i], " at position ", i, " is outside the table of ", n, " rows");
  const std::int64_t grain = ceil_div(elements_at_once, static_cast<std::int64_t>(ids.size()));
  pool.split(k, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::size_t i = 0; i < ids.size(); ++i)
      for (std::int64_t j = begin; j < end; ++j)
        table[ids[i] * k + j] += from[static_cast<std::int64_t>(i) * k + j];
  });
}

void adamw(ThreadPool& pool, const AdamwCall& call) {
  constexpr std::int64_t piece = 4 * elements_at_once;
  share_items(pool, pool.size(), ceil_div(call.count, piece), [&](std::int64_t, std::int64_t i) {
    kernels().adamw(call, i * piece, std::min((i + 1) * piece, call.count));
  });
}

namespace {

double exact_square_sum(const float* x, std::int64_t count) {
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

// Of up to `elements_at_once`; in double where squares leave the range of a float.
double part_of_square_sum(const float* x, std::int64_t count) {
  const auto total = static_cast<double>(kernels().square_sum(x, count));
  return total < 1e30 ? total : exact_square_sum(x, count);
}

}  // namespace

double square_sum(ThreadPool& pool, const float* x, std::int64_t count) {
  constexpr std::int64_t most_parts = 1024;
  double total = 0.0;
  for (std::int64_t first = 0; first < count; first += most_parts * elements_at_once) {
    double sums[most_parts];
    const std::int64_t size = std::min(most_parts * elements_at_once, count - first);
    pool.split(size, elements_at_once, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end; at += elements_at_once)
        sums[at / elements_at_once] =
            part_of_square_sum(x + first + at, std::min(elements_at_once, end - at));
    });
    for (std::int64_t i = 0; i < ceil_div(size, elements_at_once); ++i) total += sums[i];
  }
  return total;
}

}  // namespace orion::cpu
