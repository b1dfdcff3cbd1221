// What the segments of all architectures share, and what follows from their tables.
#include "orion/segments.h"

#include "ir/rewrite.h"
#include "models/decoder.h"
#include "models/rope.h"
#include "orion/error.h"
#include "orion/ops.h"

#include <algorithm>
#include <limits>

namespace orion {
namespace {

const SegmentDef& segments_of(const ModelConfig& config) {
  return find_model(config.model_type).segments();
}

// (1, n D, 1, S), column b T + t -> (B, n, T, D)
Value by_sequence(Value plane, const CacheStepShape& shape, std::int64_t head_dim) {
  const std::int64_t channels = plane.shape()[1];
  const Value used = ops::slice_by_index(plane, {0, 0, 0, 0}, {1, channels, 1, shape.batch * shape.tokens});
  const Value heads = ops::reshape(used, {channels / head_dim, head_dim, shape.batch, shape.tokens});
  return ops::transpose(heads, {2, 0, 3, 1});
}

// The way back; columns that no token has are zeros.
Value by_column(Value heads, const CacheStepShape& shape) {
  const std::int64_t channels = heads.shape()[1] * heads.shape()[3];
  const std::int64_t used = shape.batch * shape.tokens;
  const Value plane = ops::reshape(ops::transpose(heads, {1, 3, 0, 2}), {1, channels, 1, used});
  return ops::pad(plane, {0, 0, 0, 0, 0, 0, 0, shape.columns - used});
}

// With `count` as a number of tokens.
SegmentShape part_of(const ModelConfig& config, SegmentShape shape) {
  if (shape.layer != 0) fail("segment: head of layer ", shape.layer, ", a model has one head: layer 0");
  if (shape.first < 0 || shape.first >= config.vocab || shape.count < 0 ||
      shape.count > config.vocab - shape.first)
    fail("segment: ", shape.count, " tokens from ", shape.first, " on, the vocabulary has ", config.vocab);
  if (shape.count == 0) shape.count = config.vocab - shape.first;
  return shape;
}

// Row positions[i] of a table becomes column i of a plane.
void write_columns(const Tensor& table, std::span<const std::int32_t> positions, const Tensor& plane) {
  const std::int64_t pairs = table.shape()[1];
  const std::size_t columns = positions.size();
  for (std::size_t column = 0; column < columns; ++column) {
    const auto row = std::clamp<std::int64_t>(positions[column], 0, table.shape()[0] - 1);
    const std::uint16_t* angles = table.as<std::uint16_t>().data() + row * pairs;
    for (std::int64_t i = 0; i < pairs; ++i)
      plane.as<std::uint16_t>()[static_cast<std::size_t>(i) * columns + column] = angles[i];
  }
}

// x as rows (N, C), fp32 -> as the layers take it
Value as_activations(Value x, const EndShape& shape) {
  const std::int64_t tokens = x.shape()[0], channels = x.shape()[1];
  const Value y =
      shape.layout == Layout::rows ? x : ops::reshape(ops::transpose(x, {1, 0}), {1, channels, 1, tokens});
  return shape.dtype == DType::fp32 ? y : ops::cast(y, std::string(dtype_name(shape.dtype)));
}

Value as_rows(Value x, const EndShape& shape) {
  const Value wide = shape.dtype == DType::fp32 ? x : ops::cast(x, "fp32");
  if (shape.layout == Layout::rows) return wide;
  const std::int64_t channels = x.shape()[1], tokens = x.shape()[3];
  return ops::transpose(ops::reshape(wide, {channels, tokens}), {1, 0});
}

// Copies a graph into another, its inputs standing for values there; the value of its one output.
Value inlined(Graph& to, const Graph& from, const std::map<std::string_view, Value>& inputs) {
  std::vector<Value> values;
  for (const Node& node : from.nodes()) {
    std::vector<NodeId> in;
    for (const NodeId input : node.inputs)
      in.push_back(input == absent ? absent : values[static_cast<std::size_t>(input)].id);
    values.push_back(node.is("input") ? inputs.at(node.name) : to.copy(node, std::move(in)));
  }
  return values[static_cast<std::size_t>(from.outputs().front().node)];
}

// (1, 1, S, S): 0 where a query sees a key, -inf where the key is later.
Tensor hiding_mask(std::int64_t tokens, DType dtype) {
  const Tensor mask({DType::fp32, {1, 1, tokens, tokens}});
  for (std::int64_t i = 0; i < tokens; ++i)
    for (std::int64_t j = i + 1; j < tokens; ++j)
      mask.as<float>()[static_cast<std::size_t>(i * tokens + j)] = -std::numeric_limits<float>::infinity();
  return convert(mask, dtype);
}

// Causal attention as attention with a constant added to the scores: forward and backward then need no
// comparisons, which the engine does not have, and gradients pass the sum as they are.
Graph with_hiding_masks(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (!call.node.is("scaled_dot_product_attention") || !call.node.flag("causal")) return {};
    const std::int64_t tokens = call.in[0].shape()[2];
    const Value mask = call.graph.constant(hiding_mask(tokens, call.in[0].dtype()), "hidden_keys");
    return ops::scaled_dot_product_attention(call.in[0], call.in[1], call.in[2], mask, {}, false,
                                             call.node.number("scale"));
  });
}

}  // namespace

std::string_view segment_name(SegmentKind kind) {
  constexpr std::string_view names[] = {"attention", "feed_forward", "projection", "output", "head"};
  return names[static_cast<std::size_t>(kind)];
}

Shape activation_shape(Layout layout, std::int64_t channels, std::int64_t tokens) {
  return layout == Layout::rows ? Shape{tokens, channels} : Shape{1, channels, 1, tokens};
}

SegmentKind segment_kind(std::string_view name) {
  std::string known;
  for (const SegmentKind kind : segment_kinds) {
    if (segment_name(kind) == name) return kind;
    known += str(known.empty() ? "" : ", ", segment_name(kind));
  }
  fail("segment '", name, "': one of ", known, " is needed");
}

Graph segment(const ModelConfig& config, const SegmentShape& shape) {
  if (shape.layer < 0 || shape.layer >= config.layers)
    fail("segment: layer ", shape.layer, " of a model with ", config.layers);
  if (shape.tokens < 1) fail("segment: ", shape.tokens, " tokens, at least 1 is needed");
  if (shape.batch < 1) fail("segment: ", shape.batch, " sequences, at least 1 is needed");
  if (shape.kind == SegmentKind::head) return segments_of(config).engine_head(config, part_of(config, shape));
  if (shape.first != 0 || shape.count != 0)
    fail("segment: ", segment_name(shape.kind), " has no part of the vocabulary, only head has");
  return segments_of(config).layer(config, shape);
}

bool has_rotary_inputs(const ModelConfig& config) {
  return segments_of(config).rotary;
}

RotaryTable::RotaryTable(const ModelConfig& config) {
  if (!segments_of(config).rotary) return;
  RopeTables tables = rope_tables(config.rope, config.context, config.head_dim, DType::fp16);
  cos_ = std::move(tables.cos);
  sin_ = std::move(tables.sin);
}

void RotaryTable::write(std::span<const std::int32_t> positions, const Tensor& cos, const Tensor& sin) const {
  write_columns(cos_, positions, cos);
  write_columns(sin_, positions, sin);
}

RotaryAngles rotary_angles(const ModelConfig& config, const SegmentShape& shape) {
  if (!has_rotary_inputs(config)) return {};
  if (shape.layout == Layout::rows) {
    const RopeTables tables = rope_tables(config.rope, shape.tokens, config.head_dim, shape.dtype);
    return {tables.cos, tables.sin};
  }
  if (shape.dtype != DType::fp16) fail("rotary_angles: columns are fp16");
  const std::int64_t columns = shape.batch * shape.tokens;
  const TensorType plane{DType::fp16, activation_shape(shape.layout, config.head_dim / 2, columns)};
  std::vector<std::int32_t> positions;
  for (std::int64_t i = 0; i < columns; ++i) positions.push_back(static_cast<std::int32_t>(i % shape.tokens));
  const RotaryAngles angles{Tensor(plane), Tensor(plane)};
  RotaryTable(config).write(positions, angles.cos, angles.sin);
  return angles;
}

Graph embedding_segment(const ModelConfig& config, std::int64_t columns) {
  return segments_of(config).embedding(config, columns, DType::fp16);
}

Graph head_segment(const ModelConfig& config, std::int64_t batch) {
  return segments_of(config).head(config, batch, DType::fp16);
}

Graph training_layer(const ModelConfig& config, const SegmentShape& shape) {
  const Graph causal = segment(config, shape);
  const Graph whole = shape.layout == Layout::columns ? with_hiding_masks(causal) : causal;
  Graph graph;
  std::map<std::string_view, Value> inputs;
  for (const NodeId id : whole.inputs())
    inputs[whole.node(id).name] = graph.input(whole.node(id).name, whole.node(id).type);
  graph.output("hidden", inlined(graph, whole, inputs));
  return graph;
}

Graph training_embedding(const ModelConfig& config, const EndShape& shape) {
  const std::int64_t tokens = shape.batch * shape.tokens;
  const Graph plane = segments_of(config).embedding(config, tokens, DType::fp32);
  Graph graph;
  const Value ids = graph.input("ids", {DType::int32, {tokens}});
  const Value positions = graph.input("positions", {DType::int32, {tokens}});
  const Value x = inlined(graph, plane, {{"ids", ids}, {"positions", positions}});
  const EndShape columns{.tokens = shape.tokens, .batch = shape.batch, .dtype = DType::fp32};
  graph.output("x", as_activations(as_rows(x, columns), shape));
  return graph;
}

Graph training_loss(const ModelConfig& config, const EndShape& shape) {
  const std::int64_t tokens = shape.batch * shape.tokens;
  const Graph head = segments_of(config).head(config, tokens, DType::fp32);
  Graph graph;
  const Value x = graph.input("x", {shape.dtype, activation_shape(shape.layout, config.width, tokens)});
  const Value targets = graph.input("targets", {DType::int32, {tokens}});
  const Value logits = inlined(graph, head, {{"x", as_rows(x, shape)}});
  graph.output("loss", ops::reshape(ops::reduce_sum(ops::cross_entropy(logits, targets), {0}), {1}));
  return graph;
}

std::vector<Port> host_weights(const ModelConfig& config, bool with_head) {
  std::vector<Port> ports = weight_ports(embedding_segment(config, 1));
  if (!with_head) return ports;
  for (Port& port : weight_ports(head_segment(config, 1)))
    if (std::ranges::find(ports, port.name, &Port::name) == ports.end()) ports.push_back(std::move(port));
  return ports;
}

Graph cache_step_segment(const ModelConfig& config, const CacheStepShape& shape) {
  Graph graph;
  const auto plane = [&](std::string_view name, std::int64_t heads) {
    const Value value = graph.input(name, {DType::fp16, {1, heads * config.head_dim, 1, shape.columns}});
    return by_sequence(value, shape, config.head_dim);
  };
  const Value q = plane("q", config.heads);
  const Value k = plane("k", config.kv_heads);
  const Value v = plane("v", config.kv_heads);
  const Value position = graph.input("position", {DType::int32, {shape.batch}});
  const auto extended = [&](std::string_view name, Value rows) {
    const Value cache = graph.input(name, cache_type(config, shape.batch, shape.rows, DType::fp16));
    const Value updated = ops::cache_update(cache, rows, position);
    graph.output(name, updated);
    return updated;
  };
  const Value keys = extended("k_cache", k);
  const Value values = extended("v_cache", v);
  const Value y = ops::scaled_dot_product_attention(q, keys, values, {}, position, false,
                                                    score_scale(config, shape.layer));
  graph.output("attended", by_column(y, shape));
  return graph;
}

std::span<const std::int64_t> prefill_buckets() {
  static constexpr std::int64_t buckets[] = {32, 64, 128, 256, 512, 1024};
  return buckets;
}

}  // namespace orion
