// Emission of graphs that `lower_to_mil` has been through already.
#pragma once

#include "orion/mil.h"

namespace orion::mil {

/// Whether the program reads this node's value from its weight file.
bool is_blob(const Node& node);

std::vector<BlobEntry> blob_entries_of_lowered(const Graph& graph);
std::string emit_lowered(const Graph& graph);

weights::BlobType blob_type(DType dtype);

}  // namespace orion::mil
