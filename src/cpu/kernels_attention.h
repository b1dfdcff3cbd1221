// Attention for a vector type V with a streaming softmax: keys come in blocks, and each query keeps the
// largest score so far, the sum of exp(score - largest) and the weighted sum of values, rescaled when a
// larger score turns up.
//
// Many queries: everything is computed transposed, queries side by side in a panel: scores S^T (keys,
// queries) = K Q^T and sums Y^T (Dv, queries) = V^T exp(S^T). Maxima and totals then run down the columns
// without crossing lanes, and exp(S^T) is a panel at once. With `bf16`, where the processor multiplies pairs
// of bfloat16, the operands of both products are such pairs; sums, maxima and exp stay fp32.
#pragma once

#include "cpu/kernels_bf16.h"

namespace orion::cpu {

/// Keys per block, a whole number of tiles.
template <class Unit>
inline constexpr std::int64_t key_block = (192 + Unit::rows - 1) / Unit::rows * Unit::rows;

constexpr std::int64_t whole_panels(std::int64_t n) {
  return (n + panel_width - 1) / panel_width * panel_width;
}

/// A row of the keys or values that the part's head reads.
template <class T>
const T* row_of(const void* cache, const HeadRows& rows, const AttentionPart& part, std::int64_t key) {
  const std::int64_t group = part.head / (part.call->h / part.call->g);
  return static_cast<const T*>(cache) + rows.at(part.batch, group, key);
}

inline const float* query_of(const AttentionPart& part, std::int64_t query) {
  return part.call->q + part.call->q_rows.at(part.batch, part.head, query);
}

inline std::int64_t place_of(const AttentionPart& part, std::int64_t query) {
  return part.call->y_rows.at(part.batch, part.head, query);
}

/// Where the mask of one query starts.
inline const float* mask_of(const AttentionPart& part, std::int64_t query) {
  const AttentionCall& call = *part.call;
  return call.mask + part.batch * call.mask_b + part.head * call.mask_h + query * call.mask_t;
}

/// What to subtract from scores before exp: the largest one, or 0 while all are -infinity, so that
/// hidden keys weigh exp(-infinity) = 0 and a query that sees none ends as 0 / 0.
template <class V>
V shift_for(V largest) {
  return select(less(V(-__builtin_inff()), largest), largest, V(0.0F));
}

// -- many queries ---------------------------------------------------------------------------------

/// Scratch of one part, as offsets in floats.
template <class Unit>
struct AttentionLayout {
  std::int64_t padded;  // Dv in whole panels, which hold whole tiles of matrices
  std::int64_t size = 0;
  std::int64_t
      queries;          // panels [query_block / 32][D][32], scaled; or [query_block / 32][D / 2][32] of pairs
  std::int64_t panel;   // [D][32], a panel of queries before it becomes pairs
  std::int64_t keys;    // (key_block, D), packed
  std::int64_t values;  // (Dv, key_block), packed
  std::int64_t wide;    // (key_block, D or Dv), fp16 keys or values widened
  std::int64_t scores;  // (key_block, 32); when they are weights, perhaps key_block / 2
  std::int64_t sums;    // [query_block / 32][padded][32]
  std::int64_t result;  // (32, padded)
  std::int64_t largest;  // (query_block,)
  std::int64_t totals;   // (query_block,)
  std::int64_t rescale;  // (32,)

  explicit AttentionLayout(const AttentionCall& call) : padded(whole_panels(call.dv)) {
    const std::int64_t q = whole_panels(least(call.t, query_block));
    constexpr std::int64_t block = key_block<Unit>;
    queries = take(q * call.d);
    panel = take(call.bf16 ? panel_width * call.d : 0);
    keys = take(block * Unit::packed_row(call.d));
    values = take((call.dv + Unit::rows) * Unit::packed_row(block));
    wide = take(call.kv_dtype == DType::fp16 ? block * (call.d > call.dv ? call.d : call.dv) : 0);
    scores = take(block * panel_width);
    sums = take(q * padded);
    result = take(panel_width * padded);
    largest = take(q);
    totals = take(q);
    rescale = take(panel_width);
  }

 private:
  std::int64_t take(std::int64_t count) {
    const std::int64_t at = size;
    size += (count + 15) / 16 * 16;
    return at;
  }
};

template <class V, class Unit>
class ManyQueries {
 public:
  explicit ManyQueries(const AttentionPart& part)
      : part_(part), call_(*part.call), layout_(call_), base_(reinterpret_cast<float*>(part.scratch)) {}

  void run() {
    start();
    const std::int64_t end = call_.visible(part_.batch, part_.first + part_.count - 1);
    for (std::int64_t key = 0; key < end; key += key_block<Unit>) {
      const std::int64_t count = least(key_block<Unit>, end - key);
      if (call_.kv_dtype == DType::fp16)
        load_block<std::uint16_t>(key, count);
      else
        load_block<float>(key, count);
      for (std::int64_t q = 0; q < part_.count; q += panel_width)
        if (const std::int64_t seen = seen_by_panel(q) - key; seen > 0)
          attend_block(q, key, least(count, seen));
    }
    finish();
  }

 private:
  static constexpr std::int64_t together = Unit::together;  // inputs in a step of a product
  static constexpr bool pairs = together == 2;

  static constexpr std::int64_t steps(std::int64_t inputs) { return (inputs + together - 1) / together; }
  float* at(std::int64_t offset) const { return base_ + offset; }
  std::int64_t queries_from(std::int64_t q) const { return least(panel_width, part_.count - q); }
  std::int64_t visible(std::int64_t q) const { return call_.visible(part_.batch, part_.first + q); }
  std::int64_t seen_by_panel(std::int64_t q) const { return visible(q + queries_from(q) - 1); }
  float* sums_of(std::int64_t q) const { return at(layout_.sums) + q * layout_.padded; }

  void start() {
    const std::int64_t padded_count = whole_panels(part_.count);
    for (std::int64_t q = 0; q < part_.count; q += panel_width) {
      pack_queries(q);
      if (seen_by_panel(q) <= 0) fill(sums_of(q), panel_width * layout_.padded, 0.0F);
    }
    fill(at(layout_.largest), padded_count, -__builtin_inff());
    fill(at(layout_.totals), padded_count, 0.0F);
  }

  static void fill(float* to, std::int64_t count, float value) {
    for (std::int64_t i = 0; i < count; i += V::lanes) V(value).store(to + i);  // counts are whole panels
  }

  void pack_queries(std::int64_t q) {
    float* queries = at(layout_.queries) + q * call_.d;
    float* panel = pairs ? at(layout_.panel) : queries;
    const std::int64_t size = panel_width * call_.d;
    if (queries_from(q) < panel_width) fill(panel, size, 0.0F);
    transpose_block<V>(query_of(part_, part_.first + q), call_.q_rows.t, queries_from(q), call_.d, panel,
                       panel_width);
    map<V>(panel, panel, 0, size, [this](V x) { return x * V(call_.scale); });
    if constexpr (pairs) pair_rows<V, panel_width>(panel, panel_width, call_.d, panel_width, queries);
  }

  template <class T>
  void load_block(std::int64_t key, std::int64_t count) {
    loaded_ = count;
    const FloatRows k =
        as_floats(row_of<T>(call_.k, call_.k_rows, part_, key), call_.k_rows.t, count, call_.d);
    pack_for<V, Unit>(k.data, k.row, 1, count, call_.d, at(layout_.keys));
    const FloatRows v =
        as_floats(row_of<T>(call_.v, call_.v_rows, part_, key), call_.v_rows.t, count, call_.dv);
    pack_for<V, Unit>(v.data, 1, v.row, call_.dv, count, at(layout_.values));
  }

  struct FloatRows {
    const float* data;
    std::int64_t row;
  };
  FloatRows as_floats(const float* from, std::int64_t row, std::int64_t, std::int64_t) { return {from, row}; }
  FloatRows as_floats(const std::uint16_t* from, std::int64_t row, std::int64_t count, std::int64_t size) {
    for (std::int64_t i = 0; i < count; ++i) widen<V>(from + i * row, at(layout_.wide) + i * size, size);
    return {at(layout_.wide), size};
  }

  /// Queries q to q + 32 meet keys `key` to `key + count`.
  void attend_block(std::int64_t q, std::int64_t key, std::int64_t count) {
    float* scores = at(layout_.scores);
    const float* queries = at(layout_.queries) + q * call_.d;
    for (std::int64_t j = 0; j < count; j += Unit::rows)
      unit_.multiply(count - j, {at(layout_.keys) + j * Unit::packed_row(call_.d), Unit::rows, queries,
                                 panel_width, scores + j * panel_width, panel_width, steps(call_.d), false});
    if (call_.mask != nullptr) add_mask(q, key, count);
    hide_unseen(q, key, count);
    for (std::int64_t lane = 0; lane < panel_width; lane += V::lanes) weigh(q + lane, lane, count);
    if (key > 0) rescale_sums(q);
    add_values(q, count, key > 0);
  }

  void add_mask(std::int64_t q, std::int64_t key, std::int64_t count) {
    float* scores = at(layout_.scores);
    for (std::int64_t i = 0; i < queries_from(q); ++i) {
      const float* mask = mask_of(part_, part_.first + q + i) + key * call_.mask_s;
      for (std::int64_t j = 0; j < count; ++j) scores[j * panel_width + i] += mask[j * call_.mask_s];
    }
  }

  void hide_unseen(std::int64_t q, std::int64_t key, std::int64_t count) {
    if (visible(q) >= key + count) return;
    float* scores = at(layout_.scores);
    for (std::int64_t i = 0; i < queries_from(q); ++i) {
      const std::int64_t seen = visible(q + i) - key;
      for (std::int64_t j = seen > 0 ? seen : 0; j < count; ++j)
        scores[j * panel_width + i] = -__builtin_inff();
    }
  }

  /// Scores of one vector of queries become weights.
  void weigh(std::int64_t q, std::int64_t lane, std::int64_t count) {
    float* scores = at(layout_.scores) + lane;
    float* largest = at(layout_.largest) + q;
    float* totals = at(layout_.totals) + q;
    const V before = V::load(largest);
    V now = before;
    for (std::int64_t j = 0; j < count; ++j) now = max(now, V::load(scores + j * panel_width));
    const V shift = shift_for(now);
    const V rescale = weight_of(before - shift);
    V total = V::load(totals) * rescale;
    for (std::int64_t j = 0; j < count; j += together) {
      V weight = weight_of(V::load(scores + j * panel_width) - shift);
      if constexpr (pairs) {
        const V other = j + 1 < count ? weight_of(V::load(scores + (j + 1) * panel_width) - shift) : V(0.0F);
        weight = pairs_of(weight, other);
        total = total + (lower_halves(weight) + upper_halves(weight));
      } else {
        total = total + weight;
      }
      weight.store(scores + j / together * panel_width);
    }
    now.store(largest);
    total.store(totals);
    rescale.store(at(layout_.rescale) + lane);
  }

  void rescale_sums(std::int64_t q) {
    float* sums = sums_of(q);
    for (std::int64_t lane = 0; lane < panel_width; lane += V::lanes) {
      const V rescale = V::load(at(layout_.rescale) + lane);
      for (std::int64_t c = 0; c < call_.dv; ++c) {
        float* sum = sums + c * panel_width + lane;
        (V::load(sum) * rescale).store(sum);
      }
    }
  }

  /// sums = values^T weights, added to what there is if `add`
  void add_values(std::int64_t q, std::int64_t count, bool add) {
    float* sums = sums_of(q);
    for (std::int64_t c = 0; c < call_.dv; c += Unit::rows)
      unit_.multiply(call_.dv - c,
                     {at(layout_.values) + c * Unit::packed_row(loaded_), Unit::rows, at(layout_.scores),
                      panel_width, sums + c * panel_width, panel_width, steps(count), add});
  }

  void finish() {
    for (std::int64_t q = 0; q < part_.count; q += panel_width) {
      transpose_block<V>(sums_of(q), panel_width, call_.dv, panel_width, at(layout_.result), layout_.padded);
      for (std::int64_t i = 0; i < queries_from(q); ++i)
        finish_query(q + i, at(layout_.result) + i * layout_.padded);
    }
  }

  void finish_query(std::int64_t q, const float* sums) {
    const V total(at(layout_.totals)[q]);
    const std::int64_t place = place_of(part_, part_.first + q);
    const auto value = [&](std::int64_t c, int) { return V::load(sums + c) / total; };
    if (call_.rounded != nullptr)
      store_rounded<V>(value, call_.dv, call_.rounded + place, call_.streams);
    else
      for_vectors<V>(0, call_.dv,
                     [&](std::int64_t c, int n) { put(value(c, n), call_.y + place + c, n, call_.streams); });
  }

  const AttentionPart& part_;
  const AttentionCall& call_;
  AttentionLayout<Unit> layout_;
  float* base_;
  std::int64_t loaded_ = 0;  // keys of the block
  const Unit unit_{};
};

/// Calls f with a value of the type that multiplies for a call: pairs only where a processor has them, as it
/// is only for speed that operands are rounded here.
template <class V, class F>
auto with_unit(const AttentionCall& call, const F& f) {
  if constexpr (V::dots_pairs)
    if (call.bf16) return f(std::type_identity<Bf16Unit<V>>());
  return f(std::type_identity<VectorUnit<V, MultiplyAdd>>());
}

template <class V>
void attend(const AttentionPart& part) {
  with_unit<V>(*part.call, [&](auto unit) { ManyQueries<V, typename decltype(unit)::type>(part).run(); });
}

template <class V>
std::size_t attend_scratch(const AttentionCall& call) {
  return with_unit<V>(call, [&](auto unit) {
    return static_cast<std::size_t>(AttentionLayout<typename decltype(unit)::type>(call).size) *
           sizeof(float);
  });
}

// -- few queries ----------------------------------------------------------------------------------

inline constexpr std::int64_t few_keys = 64;  // keys per block

/// Scores of R neighbouring keys.
template <class V, int R, class T>
void score_keys(const float* q, const T* k, std::int64_t row, std::int64_t d, float* scores) {
  V sums[std::size_t{R}];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sums[r] = V(0.0F);
  std::int64_t i = 0;
  for (; i + V::lanes <= d; i += V::lanes) {
    const V query = V::load(q + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[r] = fma(query, V::load(k + r * row + i), sums[r]);
  }
  if (i < d) {
    const int n = static_cast<int>(d - i);
    const V query = V::load(q + i, n);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[r] = fma(query, V::load(k + r * row + i, n), sums[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) scores[r] = sum(sums[r]);
}

/// sums (NV * lanes, the last vector only `last` lanes) = sums * rescale + weights values
template <class V, int NV, class T>
void add_weighted(const float* weights, std::int64_t count, const T* v, std::int64_t row, int last,
                  float rescale, float* sums) {
  V totals[std::size_t{NV}];
#pragma GCC unroll 4
  for (int c = 0; c < NV; ++c)
    totals[c] = V(rescale) * (c + 1 < NV ? V::load(sums + c * V::lanes) : V::load(sums + c * V::lanes, last));
  for (std::int64_t j = 0; j < count; ++j, v += row) {
    const V weight(weights[j]);
#pragma GCC unroll 4
    for (int c = 0; c < NV; ++c)
      totals[c] =
          fma(weight,
              c + 1 < NV || last == V::lanes ? V::load(v + c * V::lanes) : V::load(v + c * V::lanes, last),
              totals[c]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < NV; ++c)
    c + 1 < NV ? totals[c].store(sums + c * V::lanes) : totals[c].store(sums + c * V::lanes, last);
}

template <class V, class T>
class OneQuery {
 public:
  OneQuery(const AttentionPart& part, std::int64_t query)
      : part_(part), call_(*part.call), query_(query), y_(call_.y + place_of(part, query)) {}

  void run() {
    for (std::int64_t c = 0; c < call_.dv; ++c) y_[c] = 0.0F;
    const std::int64_t end = call_.visible(part_.batch, query_);
    for (std::int64_t key = 0; key < end; key += few_keys) {
      const std::int64_t count = least(few_keys, end - key);
      score(key, count);
      const float rescale = weigh();
      add_values(row_of<T>(call_.v, call_.v_rows, part_, key), count, rescale);
    }
    for (std::int64_t c = 0; c < call_.dv; ++c) y_[c] /= total_;
  }

 private:
  void score(std::int64_t key, std::int64_t count) {
    const float* q = query_of(part_, query_);
    const T* k = row_of<T>(call_.k, call_.k_rows, part_, key);
    const std::int64_t row = call_.k_rows.t;
    std::int64_t j = 0;
    for (; j + 4 <= count; j += 4) score_keys<V, 4>(q, k + j * row, row, call_.d, scores_ + j);
    for (; j < count; ++j) score_keys<V, 1>(q, k + j * row, row, call_.d, scores_ + j);
    for (j = 0; j < count; ++j) scores_[j] *= call_.scale;
    for (j = count; j < few_keys; ++j) scores_[j] = -__builtin_inff();
    if (call_.mask == nullptr) return;
    const float* mask = mask_of(part_, query_) + key * call_.mask_s;
    for (j = 0; j < count; ++j) scores_[j] += mask[j * call_.mask_s];
  }

  /// Scores become weights; returns what earlier sums must be multiplied with.
  float weigh() {
    V now(largest_);
    for (std::int64_t j = 0; j < few_keys; j += V::lanes) now = max(now, V::load(scores_ + j));
    const float largest = max_of(now);
    const V shift = shift_for(V(largest));
    alignas(64) float rescale[V::lanes];
    weight_of(V(largest_) - shift).store(rescale);
    V weights(0.0F);
    for (std::int64_t j = 0; j < few_keys; j += V::lanes) {
      const V weight = weight_of(V::load(scores_ + j) - shift);
      weight.store(scores_ + j);
      weights = weights + weight;
    }
    total_ = total_ * rescale[0] + sum(weights);
    largest_ = largest;
    return rescale[0];
  }

  void add_values(const T* v, std::int64_t count, float rescale) {
    std::int64_t c = 0;
    for (; c + 4 * V::lanes <= call_.dv; c += 4 * V::lanes)
      add_weighted<V, 4>(scores_, count, v + c, call_.v_rows.t, V::lanes, rescale, y_ + c);
    for (; c < call_.dv; c += V::lanes)
      add_weighted<V, 1>(scores_, count, v + c, call_.v_rows.t,
                         static_cast<int>(least(V::lanes, call_.dv - c)), rescale, y_ + c);
  }

  const AttentionPart& part_;
  const AttentionCall& call_;
  std::int64_t query_;
  float* y_;  // holds the weighted sums until the end
  float largest_ = -__builtin_inff();
  float total_ = 0.0F;
  alignas(64) float scores_[few_keys];
};

template <class V>
void attend_few(const AttentionPart& part) {
  for (std::int64_t i = 0; i < part.count; ++i)
    if (part.call->kv_dtype == DType::fp16)
      OneQuery<V, std::uint16_t>(part, part.first + i).run();
    else
      OneQuery<V, float>(part, part.first + i).run();
}

}  // namespace orion::cpu
