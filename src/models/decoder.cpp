#include "models/decoder.h"

#include "orion/ops.h"

#include <cmath>
#include <numeric>
#include <span>

namespace orion {
namespace {

Value count_from(Value position, std::int64_t batch, std::int64_t tokens) {
  std::vector<std::int32_t> steps(static_cast<std::size_t>(tokens));
  std::iota(steps.begin(), steps.end(), 0);
  return ops::add(ops::reshape(position, {batch, 1}), position.owner().constant(Tensor::from_ints(steps)));
}

}  // namespace

Value activated(Activation activation, Value x) {
  switch (activation) {
    case Activation::relu:
      return ops::relu(x);
    case Activation::gelu:
      return ops::gelu(x, "EXACT");
    case Activation::gelu_tanh:
      return ops::gelu(x, "TANH_APPROXIMATION");
    case Activation::silu:
      return ops::silu(x);
  }
  return {};  // unreachable: every Activation has a case
}

double score_scale(const ModelConfig& config, std::int64_t layer) {
  const double by_size = config.scale_scores ? 1.0 / std::sqrt(static_cast<double>(config.head_dim)) : 1.0;
  return config.scale_scores_by_layer ? by_size / static_cast<double>(layer + 1) : by_size;
}

Decoder::Decoder(const ModelConfig& config, const ForwardShape& shape, DType dtype)
    : config_(config), shape_(shape), dtype_(dtype), graph_("main") {
  ids_ = graph_.input("ids", {DType::int32, {shape.batch, shape.tokens}});
  if (shape.cache == 0) return;
  position_ = graph_.input("position", {DType::int32, {shape.batch}});
  token_positions_ = count_from(position_, shape.batch, shape.tokens);
}

Value Decoder::weight(const std::string& name, const Shape& shape) {
  return graph_.weight(name, {dtype_, shape});
}

Value Decoder::embed(Value table) {
  return ops::gather(table, ids_);
}

Value Decoder::rows_at_positions(Value table) {
  if (token_positions_) return ops::gather(table, token_positions_);
  if (table.shape()[0] == shape_.tokens) return table;
  return ops::slice_by_index(table, {0, 0}, {shape_.tokens, table.shape()[1]});
}

Value Decoder::linear(Value x, const std::string& name, std::int64_t out, bool bias) {
  const Value w = weight(name + ".weight", {out, x.shape().back()});
  const Value y = ops::matmul(x, w, false, true);
  return bias ? ops::add(y, weight(name + ".bias", {out})) : y;
}

Value Decoder::conv1d(Value x, const std::string& name, std::int64_t out) {
  const Value w = weight(name + ".weight", {x.shape().back(), out});
  return ops::add(ops::matmul(x, w), weight(name + ".bias", {out}));
}

Value Decoder::wanted_rows(Value x, std::int64_t layer) const {
  const bool is_last = layer == config_.layers - 1;
  if (!is_last || shape_.head == Head::every_position || shape_.tokens == 1) return x;
  return ops::slice_by_index(x, {0, shape_.tokens - 1, 0}, {shape_.batch, shape_.tokens, x.shape().back()});
}

Value Decoder::split_heads(Value x, std::int64_t count) {
  const std::int64_t batch = x.shape()[0], tokens = x.shape()[1], size = x.shape().back() / count;
  if (tokens == 1) return ops::reshape(x, {batch, count, 1, size});
  return ops::transpose(ops::reshape(x, {batch, tokens, count, size}), {0, 2, 1, 3});
}

Value Decoder::merge_heads(Value x) {
  const std::int64_t batch = x.shape()[0], tokens = x.shape()[2], width = x.shape()[1] * x.shape()[3];
  return ops::reshape(tokens == 1 ? x : ops::transpose(x, {0, 2, 1, 3}), {batch, tokens, width});
}

Value Decoder::attention(Value q, Value k, Value v, std::int64_t layer) {
  const double scale = score_scale(config_, layer);
  const auto before = static_cast<std::int32_t>(shape_.tokens - q.shape()[2]);  // tokens without a query
  if (!position_) return ops::scaled_dot_product_attention(q, k, v, {}, {}, before == 0, scale);
  const Value keys = cached(key_cache_name(layer), k);
  const Value values = cached(value_cache_name(layer), v);
  const Value position = before == 0
                             ? position_
                             : ops::add(position_, graph_.constant(Tensor::from_ints(std::span(&before, 1))));
  return ops::scaled_dot_product_attention(q, keys, values, {}, position, false, scale);
}

Value Decoder::cached(const std::string& name, Value rows) {
  const Value cache = graph_.input(name, cache_type(config_, shape_.batch, shape_.cache, dtype_));
  const Value updated = ops::cache_update(cache, rows, position_);
  graph_.output(name, updated);
  return updated;
}

Value Decoder::result_rows(Value x) const {
  if (shape_.head == Head::every_position) return x;
  return ops::reshape(x, {shape_.batch, x.shape().back()});
}

void Decoder::finish(Value x, Value embedding) {
  const Value head = config_.tied_head ? embedding : weight("lm_head.weight", {config_.vocab, config_.width});
  const Value logits = ops::matmul(x, head, false, true);
  graph_.output("logits", dtype_ == DType::fp32 ? logits : ops::cast(logits, "fp32"));
}

}  // namespace orion
