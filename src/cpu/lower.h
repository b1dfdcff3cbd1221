// The parts of lowering that are in files of their own.
#pragma once

#include "cpu/planner.h"

namespace orion::cpu {

/// The line that describes a node's step in a plan.
std::string label(const Node& node);

/// The node by the op table's own kernel: slow, always right.
void lower_reference(Planner& planner, NodeId id);

/// Rows of a value whose last axis is a row.
std::int64_t leading(const Shape& shape);
/// Whether the node works along the last axis alone.
bool last_axis_only(const Node& node, const Shape& shape);
/// Indices into an axis of n, negative ones being counted from its end.
void count_from_front(std::span<const std::int32_t> ids, std::int64_t n, std::int32_t* to);

/// What a node computes element by element, if it does: the call, but its addresses.
std::optional<UnaryCall> unary_call(const Node& node);
std::optional<Binary> binary_of(const Node& node);

void lower_unary(Planner& planner, NodeId id);
void lower_binary(Planner& planner, NodeId id);
void lower_select(Planner& planner, NodeId id);
void lower_cast(Planner& planner, NodeId id);
void lower_norm_gradient(Planner& planner, NodeId id);
void lower_softmax_gradient(Planner& planner, NodeId id);
void lower_cross_entropy(Planner& planner, NodeId id);
void lower_sum(Planner& planner, NodeId id);
void lower_slice(Planner& planner, NodeId id);
void lower_concat(Planner& planner, NodeId id);
void lower_pad(Planner& planner, NodeId id);
void lower_scatter(Planner& planner, NodeId id);
void lower_attention(Planner& planner, NodeId id);
void lower_attention_gradient(Planner& planner, NodeId id);
void lower_cache_update(Planner& planner, NodeId id);
void lower_rope(Planner& planner, NodeId id);

}  // namespace orion::cpu
