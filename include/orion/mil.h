// MIL text: the program format of Core ML and of the Neural Engine's compiler.
#pragma once

#include "orion/graph.h"
#include "orion/weight_file.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace orion::mil {

/// The graph as `emit` writes it: ops that MIL lacks expanded, dead nodes gone, and an interface that
/// MIL can state. Every output is a node of its own that bears its name: an output that is an input, a
/// weight, a constant or another output gets an `identity`. An output with an input's name (that input's new
/// state) is called `<name>_out`, because a MIL variable has one value. Inner nodes whose name could be
/// taken for a word of MIL, C or Python, or for an op, get a number at the end.
/// Error naming op and node where there is no such form.
Graph lower_to_mil(const Graph& graph);

/// The program `program(1.3) { func <graph name><ios18>... }` of the lowered graph, with every parameter a
/// named constant and floats in exact hexadecimal. emit(parse(emit(g))) is emit(g).
std::string emit(const Graph& graph);

/// Constants with more elements than this are kept in the weight file (bools never: it has none).
inline constexpr std::int64_t most_inline_elements = 64;

/// A tensor that the program reads from its weight file.
struct BlobEntry {
  std::string name;  // the weight's, or the constant's node's
  TensorType type;
  Tensor value;  // of a constant; empty for a weight
  std::uint64_t offset = 0;
};

/// What the weight file of `emit(graph)` must hold, in order.
std::vector<BlobEntry> blob_entries(const Graph& graph);

/// Where `emit` says the weights are.
inline constexpr std::string_view model_file = "model.mil";
inline constexpr std::string_view weight_file = "weights/weight.bin";

/// Writes `model.mil` and `weights/weight.bin` (with its `.names`) into `directory`, created if missing.
/// A float weight of another width is converted. Error if a weight is missing, has another shape, or
/// does not fit.
void write_program(const Graph& graph, const TensorMap& weights, const std::filesystem::path& directory);

/// One function of a MIL text: the one named, or `main`, or the only one. What BLOBFILE names becomes a
/// weight, called as its `name` attribute says. Error with line and column if the text is not MIL or uses
/// what graphs do not have.
Graph parse(std::string_view text, std::string_view function = "");

/// How two graphs differ, a line each; empty if they compute the same in the same way. Names of inputs,
/// outputs and weights matter, those of inner nodes do not. Nodes that no output needs are not
/// looked at.
std::vector<std::string> diff(const Graph& a, const Graph& b);

}  // namespace orion::mil
