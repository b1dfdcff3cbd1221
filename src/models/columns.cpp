#include "models/columns.h"

#include "models/decoder.h"
#include "orion/ops.h"

#include <algorithm>

namespace orion {

Columns::Columns(const ModelConfig& config, const SegmentShape& shape)
    : config_(config), shape_(shape), graph_("main") {}

Value Columns::input(std::string_view name, std::int64_t channels) {
  return graph_.input(
      name, {shape_.dtype, activation_shape(shape_.layout, channels, shape_.batch * shape_.tokens)});
}

Value Columns::angles(std::string_view name) {
  const std::int64_t pairs = config_.head_dim / 2;
  if (shape_.layout == Layout::columns) return split_heads(input(name, pairs), 1);
  return ops::reshape(graph_.input(name, {shape_.dtype, {shape_.tokens, pairs}}),
                      {1, 1, shape_.tokens, pairs});
}

Value Columns::weight(const std::string& name, const Shape& shape) {
  return graph_.weight(name, {shape_.dtype, shape});
}

Value Columns::linear(Value x, const std::string& name, std::int64_t out, bool bias) {
  const Value y = product(x, weight(name + ".weight", {out, x.shape()[1]}));
  return bias ? with_bias(y, name + ".bias") : y;
}

Value Columns::conv1d(Value x, const std::string& name, std::int64_t out) {
  const Value w = weight(name + ".weight", {x.shape()[1], out});
  const Value y = shape_.layout == Layout::rows
                      ? ops::matmul(x, w)
                      : ops::conv(x, ops::reshape(ops::transpose(w, {1, 0}), {out, w.shape()[0], 1, 1}));
  return with_bias(y, name + ".bias");
}

// w: (out, in)
Value Columns::product(Value x, Value w) const {
  if (shape_.layout == Layout::rows) return ops::matmul(x, w, false, true);
  return ops::conv(x, ops::reshape(w, {w.shape()[0], w.shape()[1], 1, 1}));
}

Value Columns::with_bias(Value y, const std::string& bias) {
  const std::int64_t out = y.shape()[1];
  const Value b = weight(bias, {out});
  return ops::add(y, shape_.layout == Layout::rows ? b : ops::reshape(b, {1, out, 1, 1}));
}

Graph Columns::head(Value x, const std::string& embedding) {
  const Value all = weight(head_weight(config_, embedding), {config_.vocab, config_.width});
  const Value part =
      ops::slice_by_index(all, {shape_.first, 0}, {shape_.first + shape_.count, config_.width});
  graph_.output("logits", product(x, part));
  return release();
}

Value Columns::activate(Value x) const {
  return activated(config_.activation, x);
}

Value Columns::split_heads(Value x, std::int64_t count) const {
  const auto [batch, tokens] = std::pair(shape_.batch, shape_.tokens);
  const std::int64_t size = x.shape()[1] / count;
  if (shape_.layout == Layout::rows)
    return ops::transpose(ops::reshape(x, {batch, tokens, count, size}), {0, 2, 1, 3});
  if (batch == 1) return ops::transpose(ops::reshape(x, {1, count, size, tokens}), {0, 1, 3, 2});
  return ops::transpose(ops::reshape(x, {count, size, batch, tokens}), {2, 0, 3, 1});
}

Value Columns::merge_heads(Value x) const {
  const std::int64_t columns = shape_.batch * shape_.tokens;
  const std::int64_t channels = x.shape()[1] * x.shape()[3];
  if (shape_.layout == Layout::rows)
    return ops::reshape(ops::transpose(x, {0, 2, 1, 3}), {columns, channels});
  if (shape_.batch == 1) return ops::reshape(ops::transpose(x, {0, 1, 3, 2}), {1, channels, 1, columns});
  return ops::reshape(ops::transpose(x, {1, 3, 0, 2}), {1, channels, 1, columns});
}

// Scores are the largest values of a segment; the engine's memory holds those of some heads at once.
std::int64_t Columns::key_heads_at_once() const {
  constexpr std::int64_t most_score_bytes = std::int64_t{4} << 20;
  if (shape_.layout == Layout::rows) return config_.kv_heads;
  const std::int64_t scores = shape_.batch * shape_.tokens * shape_.tokens;
  const std::int64_t bytes = config_.heads / config_.kv_heads * scores * 2;
  return std::clamp<std::int64_t>(most_score_bytes / bytes, 1, config_.kv_heads);
}

Value Columns::attention(Value q, Value k, Value v, std::int64_t layer) const {
  const std::int64_t queries_per_key = config_.heads / config_.kv_heads;
  const std::int64_t step = key_heads_at_once();
  const auto heads = [](Value x, std::int64_t begin, std::int64_t end) {
    const Shape shape = x.shape();
    if (end - begin == shape[1]) return x;
    return ops::slice_by_index(x, {0, begin, 0, 0}, {shape[0], end, shape[2], shape[3]});
  };
  std::vector<Value> parts;
  for (std::int64_t begin = 0; begin < config_.kv_heads; begin += step) {
    const std::int64_t end = std::min(begin + step, config_.kv_heads);
    parts.push_back(merge_heads(ops::scaled_dot_product_attention(
        heads(q, begin * queries_per_key, end * queries_per_key), heads(k, begin, end), heads(v, begin, end),
        {}, {}, true, score_scale(config_, layer))));
  }
  return parts.size() == 1 ? parts[0] : ops::concat(parts, 1);
}

std::string head_weight(const ModelConfig& config, const std::string& embedding) {
  return config.tied_head ? embedding : "lm_head.weight";
}

EmbeddingGraph::EmbeddingGraph(std::int64_t columns, DType dtype)
    : dtype_(dtype),
      graph_("main"),
      ids_(graph_.input("ids", {DType::int32, {columns}})),
      positions_(graph_.input("positions", {DType::int32, {columns}})) {}

Value EmbeddingGraph::rows_of_ids(const std::string& table, const Shape& shape) {
  return rows(table, shape, ids_);
}

Value EmbeddingGraph::rows_of_positions(const std::string& table, const Shape& shape) {
  return rows(table, shape, positions_);
}

Value EmbeddingGraph::rows(const std::string& table, const Shape& shape, Value indices) {
  return ops::gather(graph_.weight(table, {dtype_, shape}), indices);
}

Graph EmbeddingGraph::finish(Value x) {
  const Shape shape = x.shape();
  graph_.output("x", ops::reshape(ops::transpose(x, {1, 0}), {1, shape[1], 1, shape[0]}));
  return std::move(graph_);
}

HeadGraph::HeadGraph(const ModelConfig& config, std::int64_t batch, DType dtype)
    : config_(config), dtype_(dtype), graph_("main"), x_(graph_.input("x", {dtype, {batch, config.width}})) {}

Value HeadGraph::weight(const std::string& name, const Shape& shape) {
  return graph_.weight(name, {dtype_, shape});
}

Graph HeadGraph::finish(Value x, const std::string& embedding) {
  const Value matrix = weight(head_weight(config_, embedding), {config_.vocab, config_.width});
  const Value logits = ops::matmul(x, matrix, false, true);
  graph_.output("logits", dtype_ == DType::fp32 ? logits : ops::cast(logits, "fp32"));
  return std::move(graph_);
}

}  // namespace orion
