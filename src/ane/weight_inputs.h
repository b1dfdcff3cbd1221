// Weights as run-time inputs: the program is compiled once and never loaded again.
#pragma once

#include "orion/graph.h"

#include <map>

namespace orion::ane {

/// The graph with every weight as an input; `names` says which input is which weight. A weight (O, I, 1, 1)
/// becomes a matrix (O, I) and its convolution a product, since the engine ignores convolution weights
/// that change (field survey, C15).
Graph weights_as_inputs(const Graph& graph, std::map<std::string, std::string>& names);

}  // namespace orion::ane
