// Functions of elements that are computed together.
#pragma once

#include "cpu/planner.h"

namespace orion::cpu {

/// Nodes of one shape that compute element by element, in order; the step takes the place of the last.
struct Chain {
  std::vector<NodeId> nodes;
};

/// Among the nodes that are not part of another step yet.
std::vector<Chain> find_chains(Planner& planner);
void lower_chain(Planner& planner, const Chain& chain);

}  // namespace orion::cpu
