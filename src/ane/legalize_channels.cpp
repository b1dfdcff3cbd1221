// Convolutions with more output channels than the engine takes, such as projections to a vocabulary, in
// chunks.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "ops/slice.h"
#include "orion/ops.h"

#include <algorithm>
#include <limits>

namespace orion::ane {
namespace {

constexpr std::int64_t most_conv_channels = 31'999;

// A value as chunks along one axis; a single chunk is the value itself.
struct Chunks {
  std::vector<Value> values;
  int axis = 0;

  bool is_whole() const { return values.size() == 1; }
};

Value chunk_of(Value x, int axis, std::int64_t begin, std::int64_t count) {
  Slice slice;
  for (const std::int64_t size : x.shape()) slice.push_back({.count = size});
  slice[static_cast<std::size_t>(axis)] = {.begin = begin, .count = count};
  return take(x, slice);
}

class ChannelSplit {
 public:
  ChannelSplit(const Graph& graph, std::int64_t most, std::vector<SplitOutput>& splits)
      : graph_(graph),
        most_(most),
        splits_(splits),
        result_(graph.name()),
        chunks_(static_cast<std::size_t>(graph.size())) {}

  Graph run() {
    const std::vector<bool> live = live_nodes(graph_);
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_.node(id);
      if (live[static_cast<std::size_t>(id)] || node.is("input")) at(id) = rebuilt(node);
    }
    for (const Output& output : graph_.outputs()) give(output);
    return std::move(result_);
  }

 private:
  Chunks& at(NodeId id) { return chunks_[static_cast<std::size_t>(id)]; }

  Chunks rebuilt(const Node& node) {
    if (node.is("conv") && at(node.inputs[0]).is_whole() && node.type.shape[1] > most_) return split(node);
    for (const NodeId input : node.inputs)
      if (input != absent && !at(input).is_whole()) return followed(node, at(input));
    std::vector<NodeId> ids;
    for (const NodeId input : node.inputs) ids.push_back(input == absent ? absent : at(input).values[0].id);
    return {{result_.copy(node, std::move(ids))}};
  }

  Chunks split(const Node& node) {
    const std::int64_t channels = node.type.shape[1];
    const std::int64_t count = (channels + most_ - 1) / most_;
    const std::int64_t size = (channels + count - 1) / count;
    if (node.integer("groups") != 1) refuse(node);
    Chunks chunks{{}, 1};
    for (std::int64_t begin = 0; begin < channels; begin += size) {
      const Value kernel = chunk_of(at(node.inputs[1]).values[0], 0, begin, std::min(size, channels - begin));
      chunks.values.push_back(
          result_.add(*node.op, {at(node.inputs[0]).values[0].id, kernel.id, absent}, node.attrs));
    }
    return chunks;
  }

  // What stands after a split value, chunk by chunk.
  Chunks followed(const Node& node, const Chunks& first) {
    if (node.op->elementwise) return elementwise(node, first);
    if (node.is("transpose")) return transposed(node, first);
    if (node.is("reshape")) return reshaped_chunks(node, first);
    refuse(node);
  }

  Chunks elementwise(const Node& node, const Chunks& first) {
    Chunks chunks{{}, first.axis + node.type.shape.rank() - first.values[0].shape().rank()};
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < first.values.size(); ++i) {
      const std::int64_t count = first.values[i].shape()[first.axis];
      std::vector<NodeId> ids;
      for (const NodeId input : node.inputs)
        ids.push_back(matching(node, at(input), chunks.axis, i, begin, count).id);
      chunks.values.push_back(result_.add(*node.op, std::move(ids), node.attrs));
      begin += count;
    }
    return chunks;
  }

  // Chunk i of an operand that may be split, whole, or the same for all of `axis` of the result.
  Value matching(const Node& node, const Chunks& operand, int axis, std::size_t i, std::int64_t begin,
                 std::int64_t count) {
    if (!operand.is_whole()) return operand.values[i];
    const Value whole = operand.values[0];
    const int own = axis - (node.type.shape.rank() - whole.shape().rank());
    const bool is_shared = own < 0 || whole.shape()[own] == 1;
    return is_shared ? whole : chunk_of(whole, own, begin, count);
  }

  Chunks transposed(const Node& node, const Chunks& first) {
    const std::vector<std::int64_t>& perm = node.list("perm");
    const auto axis = static_cast<int>(std::ranges::find(perm, first.axis) - perm.begin());
    Chunks chunks{{}, axis};
    for (const Value value : first.values) chunks.values.push_back(ops::transpose(value, perm));
    return chunks;
  }

  // A reshape that leaves the split axis as it is.
  Chunks reshaped_chunks(const Node& node, const Chunks& first) {
    const Shape before = graph_.node(node.inputs[0]).type.shape;
    Shape shape = node.type.shape;
    const auto is_same = [&](int axis) {
      return shape[axis] == before[first.axis] && shape.stride(axis) == before.stride(first.axis);
    };
    int axis = 0;
    while (axis < shape.rank() && !is_same(axis)) ++axis;
    if (axis == shape.rank()) refuse(node);
    Chunks chunks{{}, axis};
    for (const Value value : first.values) {
      shape.set(axis, value.shape()[first.axis]);
      chunks.values.push_back(reshaped(value, shape));
    }
    return chunks;
  }

  void give(const Output& output) {
    const Chunks& chunks = at(output.node);
    if (chunks.is_whole()) return result_.output(output.name, chunks.values[0]);
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < chunks.values.size(); ++i) {
      const std::int64_t count = chunks.values[i].shape()[chunks.axis];
      splits_.push_back({str(output.name, '_', i), output.name, chunks.axis, begin, count});
      result_.output(splits_.back().name, chunks.values[i]);
      begin += count;
    }
  }

  [[noreturn]] static void refuse(const Node& node) {
    fail("conv-32k-channels: ", node.op->name, " '", node.name,
         "' needs all channels of a product that is too wide for the engine; elementwise operations can "
         "follow one, others must run on the host");
  }

  const Graph& graph_;
  std::int64_t most_;
  std::vector<SplitOutput>& splits_;
  Graph result_;
  std::vector<Chunks> chunks_;  // by node
};

}  // namespace

std::int64_t most_channels(const Profile& profile) {
  const bool conv_limited = profile.has("conv-32k-channels");
  const bool axis_limited = profile.has("largest-axis");
  return std::min(conv_limited ? most_conv_channels : std::numeric_limits<std::int64_t>::max(),
                  axis_limited ? profile.largest_axis : std::numeric_limits<std::int64_t>::max());
}

//   %2 (1, 50257, 1, 32) = conv(x=%0, weight=%w)
//   -> logits = %2
// becomes, where 16384 channels are possible,
//   %2 (1, 12565, 1, 32) = conv(x=%0, weight=%w[0:12565])
//   ...
//   -> logits_0 = %2, ..., logits_3 = %5
Graph split_channels(const Graph& graph, const Profile& profile, std::vector<SplitOutput>& splits) {
  return ChannelSplit(graph, most_channels(profile), splits).run();
}

}  // namespace orion::ane
