#include "models/columns.h"

#include "models/decoder.h"
#include "orion/ops.h"

#include <algorithm>

namespace orion {

Columns::Columns(const ModelConfig& config, std::int64_t tokens)
    : config_(config), tokens_(tokens), graph_("main") {}

Value Columns::input(std::string_view name, std::int64_t channels) {
  return graph_.input(name, {DType::fp16, {1, channels, 1, tokens_}});
}

Value Columns::weight(const std::string& name, const Shape& shape) {
  return graph_.weight(name, {DType::fp16, shape});
}

Value Columns::linear(Value x, const std::string& name, std::int64_t out, bool bias) {
  return product(x, weight(name + ".weight", {out, x.shape()[1]}), bias ? name + ".bias" : "");
}

Value Columns::conv1d(Value x, const std::string& name, std::int64_t out) {
  const Value w = weight(name + ".weight", {x.shape()[1], out});
  return product(x, ops::transpose(w, {1, 0}), name + ".bias");
}

// kernel: (out, in); no bias if its name is empty.
Value Columns::product(Value x, Value kernel, const std::string& bias) {
  const std::int64_t out = kernel.shape()[0];
  const Value y = ops::conv(x, ops::reshape(kernel, {out, kernel.shape()[1], 1, 1}));
  return bias.empty() ? y : ops::add(y, ops::reshape(weight(bias, {out}), {1, out, 1, 1}));
}

Value Columns::activate(Value x) const {
  return activated(config_.activation, x);
}

Value Columns::split_heads(Value x, std::int64_t count) const {
  const std::int64_t size = x.shape()[1] / count;
  return ops::transpose(ops::reshape(x, {1, count, size, tokens_}), {0, 1, 3, 2});
}

Value Columns::merge_heads(Value x) const {
  const std::int64_t channels = x.shape()[1] * x.shape()[3];
  return ops::reshape(ops::transpose(x, {0, 1, 3, 2}), {1, channels, 1, tokens_});
}

// Scores are the largest values of a segment; the engine's memory holds those of some heads at once.
std::int64_t Columns::key_heads_at_once() const {
  constexpr std::int64_t most_score_bytes = std::int64_t{4} << 20;
  const std::int64_t bytes = config_.heads / config_.kv_heads * tokens_ * tokens_ * 2;
  return std::clamp<std::int64_t>(most_score_bytes / bytes, 1, config_.kv_heads);
}

Value Columns::attention(Value q, Value k, Value v, std::int64_t layer) const {
  const std::int64_t queries_per_key = config_.heads / config_.kv_heads;
  const std::int64_t step = key_heads_at_once();
  const auto heads = [](Value x, std::int64_t begin, std::int64_t end) {
    const Shape shape = x.shape();
    if (end - begin == shape[1]) return x;
    return ops::slice_by_index(x, {0, begin, 0, 0}, {1, end, shape[2], shape[3]});
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

EmbeddingGraph::EmbeddingGraph(std::int64_t columns)
    : graph_("main"),
      ids_(graph_.input("ids", {DType::int32, {columns}})),
      positions_(graph_.input("positions", {DType::int32, {columns}})) {}

Value EmbeddingGraph::rows_of_ids(const std::string& table, const Shape& shape) {
  return rows(table, shape, ids_);
}

Value EmbeddingGraph::rows_of_positions(const std::string& table, const Shape& shape) {
  return rows(table, shape, positions_);
}

Value EmbeddingGraph::rows(const std::string& table, const Shape& shape, Value indices) {
  return ops::gather(graph_.weight(table, {DType::fp16, shape}), indices);
}

Graph EmbeddingGraph::finish(Value x) {
  const Shape shape = x.shape();
  graph_.output("x", ops::reshape(ops::transpose(x, {1, 0}), {1, shape[1], 1, shape[0]}));
  return std::move(graph_);
}

HeadGraph::HeadGraph(const ModelConfig& config, std::int64_t batch)
    : config_(config), graph_("main"), x_(graph_.input("x", {DType::fp16, {batch, config.width}})) {}

Value HeadGraph::weight(const std::string& name, const Shape& shape) {
  return graph_.weight(name, {DType::fp16, shape});
}

Graph HeadGraph::finish(Value x, const std::string& embedding) {
  const std::string name = config_.tied_head ? embedding : "lm_head.weight";
  const Value logits = ops::matmul(x, weight(name, {config_.vocab, config_.width}), false, true);
  graph_.output("logits", ops::cast(logits, "fp32"));
  return std::move(graph_);
}

}  // namespace orion
