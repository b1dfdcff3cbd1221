// The parts of lowering that are in files of their own.
#pragma once

#include "cpu/planner.h"

namespace orion::cpu {

/// The line that describes a node's step in a plan.
std::string label(const Node& node);

/// The node by the op table's own kernel: slow, always right.
void lower_reference(Planner& planner, NodeId id);

void lower_attention(Planner& planner, NodeId id);
void lower_cache_update(Planner& planner, NodeId id);
void lower_rope(Planner& planner, NodeId id);

}  // namespace orion::cpu
