// Attention and what surrounds it: masks, rotary positions, key/value caches.
#include "cpu/attention_gradient.h"
#include "cpu/kernel_work.h"
#include "cpu/lower.h"
#include "orion/error.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace orion::cpu {
namespace {

// A bool mask (true: attend) as numbers to add to the scores.
Slot added_mask(Planner& p, NodeId mask) {
  const Slot from = p.wide(mask);
  if (p.node(mask).type.dtype != DType::boolean) return from;
  const std::int64_t count = p.shape(mask).size();
  const Slot to = p.new_arena_place(static_cast<std::size_t>(count) * sizeof(float));
  p.add_step(
      {.label = str("mask ", p.node(mask).name), .reads = {from}, .writes = to, .run = [=](const Run& run) {
         const auto* seen = run.at<std::uint8_t>(from);
         auto* added = run.at<float>(to);
         for (std::int64_t i = 0; i < count; ++i)
           added[i] = seen[i] != 0 ? 0.0F : -std::numeric_limits<float>::infinity();
       }});
  return to;
}

/// Where a result (B, H, T, D) goes: if all that is done with it is to put tokens before heads, as it is
/// then.
struct HeadResult {
  NodeId node;  // the result, or what swaps it
  HeadRows rows;
};

HeadResult head_result(Planner& p, NodeId id, NodeId emitted) {
  const Shape& y = p.shape(id);
  const NodeId user = p.only_user(id);
  const bool swaps = user != absent && p.node(user).is("transpose") &&
                     p.node(user).list("perm") == std::vector<std::int64_t>{0, 2, 1, 3};
  if (!swaps) return {id, dense_rows(y[1], y[2], y[3])};
  p.fuse(user, emitted);
  return {user, tokens_first(y[1], y[2], y[3])};
}

void set_mask_strides(AttentionCall& call, const Shape& mask) {
  std::int64_t* strides[] = {&call.mask_b, &call.mask_h, &call.mask_t, &call.mask_s};
  for (int axis = 0; axis < mask.rank(); ++axis)
    *strides[4 - mask.rank() + axis] = mask[axis] == 1 ? 0 : mask.stride(axis);
}

AttentionCall attention_call(const Planner& p, const Node& node) {
  const Shape& q = p.shape(node.inputs[0]);
  const Shape& k = p.shape(node.inputs[1]);
  AttentionCall call{
      .b = q[0], .h = q[1], .g = k[1], .t = q[2], .s = k[2], .d = q[3], .dv = p.shape(node.inputs[2])[3]};
  const double scale = node.number("scale");
  call.scale = static_cast<float>(scale != 0.0 ? scale : 1.0 / std::sqrt(static_cast<double>(call.d)));
  call.bf16 = p.format() != MatrixFormat::exact;
  call.causal = node.flag("causal");
  return call;
}

}  // namespace

void lower_attention(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const NodeId mask = node.inputs[3];
  const NodeId position = node.inputs[4];
  if (node.type.shape.rank() != 4 || p.shape(node.inputs[1])[0] != node.type.shape[0])
    return lower_reference(p, id);
  AttentionCall call = attention_call(p, node);
  const LocatedRows q = p.rows(node.inputs[0]);
  call.q_rows = q.rows;
  const bool halves = p.is_stored_in_halves(node.inputs[1]) && p.is_stored_in_halves(node.inputs[2]);
  const auto cache = [&](NodeId operand, std::int64_t size) -> LocatedRows {
    if (!halves) return p.rows(operand);
    return {.slot = p.stored(operand).slot, .rows = dense_rows(call.g, call.s, size)};
  };
  const LocatedRows k = cache(node.inputs[1], call.d), v = cache(node.inputs[2], call.dv);
  call.kv_dtype = halves ? DType::fp16 : DType::fp32;
  call.k_rows = k.rows;
  call.v_rows = v.rows;
  const Slot m = mask == absent ? no_slot : added_mask(p, mask);
  if (mask != absent) set_mask_strides(call, p.shape(mask));
  const Slot start = position == absent ? no_slot : p.wide(position);
  std::vector<Slot> reads = {q.slot, k.slot, v.slot, m, start};
  std::erase(reads, no_slot);
  const HeadResult result = head_result(p, id, id);
  const Located y = p.result_or_rounded(result.node, call.t > few_queries);
  call.y_rows = result.rows;
  p.add_step(
      {.label = str(label(node), mask == absent && position == absent && !call.causal ? "" : " masked"),
       .reads = std::move(reads),
       .writes = y.slot,
       .run =
           [=](const Run& run) {
             AttentionCall now = call;
             now.q = run.at<float>(q.slot) + q.offset;
             now.k = halves ? run.at<void>(k.slot) : run.at<float>(k.slot) + k.offset;
             now.v = halves ? run.at<void>(v.slot) : run.at<float>(v.slot) + v.offset;
             now.y = y.floats_at(run);
             now.rounded = y.rounded_at(run);
             now.mask = run.at<float>(m);
             now.position = run.at<std::int32_t>(start);
             attention(run.pool, now, run.scratch);
           },
       .scratch = attention_scratch(call, shared_pool().size())});
}

namespace {

AttentionGradientCall attention_gradient_call(const Planner& p, const Node& node) {
  const AttentionCall call = attention_call(p, node);
  return {.b = call.b,
          .h = call.h,
          .g = call.g,
          .t = call.t,
          .s = call.s,
          .d = call.d,
          .e = call.dv,
          .scale = call.scale,
          .bf16 = call.bf16,
          .causal = call.causal};
}

// The nodes that ask for the gradients of the same attention, one for each operand; `absent`: nobody asks.
std::array<NodeId, 3> same_attention(const Planner& p, NodeId id) {
  constexpr std::string_view operands[] = {"query", "key", "value"};
  std::array<NodeId, 3> result = {absent, absent, absent};
  const Node& node = p.node(id);
  for (NodeId other = id; other < p.graph().size(); ++other) {
    const Node& n = p.node(other);
    const bool same = n.op == node.op && n.inputs == node.inputs && n.flag("causal") == node.flag("causal") &&
                      n.number("scale") == node.number("scale");
    if (same) result[static_cast<std::size_t>(std::ranges::find(operands, n.text("of")) - operands)] = other;
  }
  return result;
}

}  // namespace

// All gradients of an attention in one step.
void lower_attention_gradient(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (node.type.shape.rank() != 4) return lower_reference(p, id);
  AttentionGradientCall call = attention_gradient_call(p, node);
  std::array<LocatedRows, 4> in;
  HeadRows* const in_rows[] = {&call.q_rows, &call.k_rows, &call.v_rows, &call.dy_rows};
  Step step{.label = label(node)};
  for (std::size_t i = 0; i < in.size(); ++i) {
    in[i] = p.rows(node.inputs[i]);
    *in_rows[i] = in[i].rows;
    step.reads.push_back(in[i].slot);
  }
  std::array<Slot, 3> out = {no_slot, no_slot, no_slot};
  HeadRows* const out_rows[] = {&call.dq_rows, &call.dk_rows, &call.dv_rows};
  const std::array<NodeId, 3> wanted = same_attention(p, id);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (wanted[i] == absent) continue;
    const HeadResult result = head_result(p, wanted[i], id);
    *out_rows[i] = result.rows;
    out[i] = p.result(result.node);
    if (wanted[i] == id) {
      step.writes = out[i];
      continue;
    }
    p.fuse(wanted[i], id);
    step.also_writes.push_back(out[i]);
    step.label += str(' ', p.node(wanted[i]).name);
  }
  step.scratch = attention_gradient_scratch(call, shared_pool().size());
  step.run = [=](const Run& run) {
    const auto operand = [&](std::size_t i) { return run.at<float>(in[i].slot) + in[i].offset; };
    AttentionGradientCall now = call;
    now.q = operand(0);
    now.k = operand(1);
    now.v = operand(2);
    now.dy = operand(3);
    now.dq = run.at<float>(out[0]);
    now.dk = run.at<float>(out[1]);
    now.dv = run.at<float>(out[2]);
    attention_gradient(run.pool, now, run.scratch);
  };
  p.add_step(std::move(step));
}

namespace {

// New rows of a cache of G heads, where they are, and what they become: batch b's T tokens from position
// `positions[b]` on, of a cache (B, G, S, size).
struct CacheRows {
  const float* data;
  HeadRows rows;
  std::int64_t g, t, s, size;
  const std::int32_t* positions;

  /// Tokens begin to end of all batches: a token's heads often lie side by side.
  template <class T>
  void put(ThreadPool& pool, std::int64_t begin, std::int64_t end, T* cache) const {
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t b = token / t, i = token % t;
      for (std::int64_t h = 0; h < g; ++h)
        store(pool, data + rows.at(b, h, i), cache + ((b * g + h) * s + positions[b] + i) * size);
    }
  }

 private:
  void store(ThreadPool&, const float* from, float* to) const { std::copy_n(from, size, to); }
  void store(ThreadPool& pool, const float* from, std::uint16_t* to) const { narrow(pool, from, to, size); }
};

}  // namespace

// New rows of a key/value cache, written in place where the cache is a state of the program.
void lower_cache_update(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const NodeId state = p.state_of(id);
  if (state == absent) return lower_reference(p, id);
  const Located cache = p.stored(state);
  p.locate(id, cache);
  const Shape& to = node.type.shape;
  const Shape& from = p.shape(node.inputs[1]);
  const LocatedRows update = p.rows(node.inputs[1]);
  const Slot position = p.wide(node.inputs[2]);
  const std::int64_t b = to[0], g = to[1], s = to[2], d = to[3], t = from[2];
  p.add_step(
      {.label = label(node),
       .reads = {update.slot, position, cache.slot},
       .writes = cache.slot,
       .run = [=](const Run& run) {
         const auto* positions = run.at<std::int32_t>(position);
         for (std::int64_t i = 0; i < b; ++i)
           if (positions[i] < 0 || positions[i] + t > s)
             fail("cache_update: rows ", positions[i], " to ", positions[i] + t, " of a cache of ", s);
         const CacheRows rows{run.at<float>(update.slot) + update.offset, update.rows, g, t, s, d, positions};
         run.pool.split(b * t, ceil_div(elements_at_once, g * d), [&](std::int64_t begin, std::int64_t end) {
           if (cache.dtype == DType::fp16)
             rows.put(run.pool, begin, end, run.at<std::uint16_t>(cache.slot));
           else
             rows.put(run.pool, begin, end, run.at<float>(cache.slot));
         });
       }});
}

void lower_rope(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const Shape& shape = node.type.shape;
  const Shape& table = p.shape(node.inputs[1]);
  // Tables that repeat over everything but the tokens (and perhaps the batch) suit the kernel.
  const bool per_token = table.size() == table[table.rank() - 2] * table.back();
  const bool per_batch = table.rank() == 4 && table[1] == 1 && table[0] == shape[0];
  if (shape.rank() != 4 || table.rank() < 2 || table[table.rank() - 2] != shape[2] ||
      (!per_token && !per_batch) || p.shape(node.inputs[2]) != table || table.back() * 2 != shape[3])
    return lower_reference(p, id);
  const std::int64_t b = shape[0], h = shape[1], t = shape[2], d = shape[3];
  const LocatedRows x = p.rows(node.inputs[0]);
  const HeadResult result = head_result(p, id, id);
  RopeCall call{.b = b, .h = h, .t = t, .d = d, .x_rows = x.rows, .y_rows = result.rows};
  call.table_t = d / 2;
  call.table_b = per_token ? 0 : t * (d / 2);
  call.interleaved = node.flag("interleaved");
  const Slot cos = p.wide(node.inputs[1]);
  const Slot sin = p.wide(node.inputs[2]);
  const Slot y = p.result(result.node);
  p.add_step({.label = label(node),
              .reads = {x.slot, cos, sin},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    RopeCall now = call;
                    now.x = run.at<float>(x.slot) + x.offset;
                    now.y = run.at<float>(y);
                    now.cos = run.at<float>(cos);
                    now.sin = run.at<float>(sin);
                    rope(run.pool, now);
                  },
              .in_place = x.is_dense && result.node == id});
}

}  // namespace orion::cpu
