// The rewrites that legalize.cpp puts in order.
#pragma once

#include "ane/legal_program.h"

#include <functional>

namespace orion::ane {

/// Error for an input or output whose type the profile refuses.
void check_port_types(const Graph& graph, const Profile& profile);
/// Broadcasts dropped where the op that follows stretches its operands itself.
Graph drop_broadcasts(const Graph& graph);
/// Composites in the form that stays in fp16's range and needs no more than the engine has.
Graph expand_for_engine(const Graph& graph);
/// Attention's probabilities scaled up for the product with its values, where the profile's engine drops
/// small products.
Graph scale_probabilities(const Graph& graph, const Profile& profile);
/// Every float fp16, inside and at the edges.
Graph to_half(const Graph& graph);
/// Products with constants as 1x1 convolutions over (1, C, 1, S).
Graph products_as_convolutions(const Graph& graph);
/// Single ops that the profile rejects as others that it takes.
Graph replace_rejected_ops(const Graph& graph, const Profile& profile);
/// Products as sums over shares of their channels: those that are longer than the profile's engine adds up
/// well, and those with more weights than fit its memory, as far as it takes more weights.
Graph split_products(const Graph& graph, const Profile& profile);
/// How many more tensors a program with legal weights may read from its weight file.
std::int64_t free_slots(const Graph& graph, const Profile& profile);
/// Nodes in the order that needs the least memory at once, if the given one needs more than `bytes`.
Graph order_for_sram(const Graph& graph, std::int64_t bytes);

/// The most channels that a convolution may give.
std::int64_t most_channels(const Profile& profile);
/// A share of an output that is too wide for the engine.
struct SplitOutput {
  std::string name;
  std::string source;
  int axis;
  std::int64_t begin;
  std::int64_t count;
};
/// Convolutions with too many output channels in chunks, up to the outputs.
Graph split_channels(const Graph& graph, const Profile& profile, std::vector<SplitOutput>& splits);

/// Views of weights as weights of their own.
Graph fold_weight_views(const Graph& graph, std::vector<WeightUse>& uses);
/// Weights of products with rows of at least ordinary size, where the profile's engine drops small products.
Graph scale_rows(const Graph& graph, const Profile& profile, std::vector<WeightUse>& uses);
/// The kernel with its rows divided, over itself if `in_place`; or what they are divided by, (1, rows, 1, 1).
Tensor with_rows(const Tensor& kernel, WeightUse::Rows rows, bool in_place = false);
/// Inputs and outputs as (1, C, H, W), wide enough and in order.
Graph legal_ports(const Graph& graph, const Profile& profile, std::span<const SplitOutput> splits,
                  LegalProgram& program);
/// Every output as the result of an operation of its own.
Graph own_results(const Graph& graph);

/// Builds a graph anew with other types: `rule` gives what stands in for a node, or an empty Value to copy
/// it.
struct RebuildCall {
  Graph& graph;
  const Node& node;
  const std::vector<Value>& in;
};
using RebuildRule = std::function<Value(const RebuildCall&)>;
Graph rebuild(const Graph& graph, const RebuildRule& rule);

/// The sum over `axes` (kept with size 1), accumulated wide.
Value wide_sum(Value x, const std::vector<std::int64_t>& axes);
/// The mean over `axes` (kept with size 1) of elements within [-1, 1], accumulated wide.
Value bounded_mean(Value x, const std::vector<std::int64_t>& axes);
/// Whether a convolution mixes channels and nothing else.
bool is_pointwise(const Node& conv, const Shape& kernel);
/// Whether a value is known when the program is compiled: a const, a weight, or a view of one.
bool is_known(const Graph& graph, NodeId id);

}  // namespace orion::ane
