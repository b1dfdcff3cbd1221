// The passes, one file each. pipeline.cpp lists them in order.
#pragma once

#include "orion/passes.h"

namespace orion {

Graph eliminate_identities(const Graph& graph);
Graph fuse_casts(const Graph& graph);
Graph cancel_layout(const Graph& graph);
Graph fold_constants(const Graph& graph);
Graph share_common(const Graph& graph);

}  // namespace orion
