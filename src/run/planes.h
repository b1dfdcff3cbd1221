// Between planes (1, C, 1, S), a column for each token, and the host's rows.
#pragma once

#include "orion/tensor.h"

namespace orion {

/// Columns begin .. begin + count - 1 of an fp16 plane (1, C, 1, S) as rows (count, C).
Tensor rows_of(const Tensor& plane, std::int64_t begin, std::int64_t count);

/// The way back: rows begin .. begin + count - 1 (n, C) as the first columns of a plane; the others stay.
void write_columns(const Tensor& rows, std::int64_t begin, std::int64_t count, const Tensor& plane);

/// The first `count` columns of an fp16 plane (1, n, 1, S) as fp32 rows (B, V) from row `row` on, elements
/// first .. first + n - 1.
void store_logits(const Tensor& plane, std::int64_t count, const Tensor& logits, std::int64_t row,
                  std::int64_t first);

/// The first `count` columns of an fp16 plane (1, G D, 1, S) as rows position .. of a cache (1, G, rows, D).
void store_columns(const Tensor& plane, std::int64_t count, const Tensor& cache, std::int64_t position);

/// The same memory, kept alive by the caller alone: what a program holds must not outlive a session.
Tensor unowned(const Tensor& memory);

/// Elements begin .. begin + count - 1 of the first axis, in the same memory.
Tensor first_axis(const Tensor& tensor, std::int64_t begin, std::int64_t count);

}  // namespace orion
