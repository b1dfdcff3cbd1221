// A graph made legal for the engine, with the way back: where its weights come from and how the host
// converts what goes in and out.
#pragma once

#include "orion/ane.h"
#include "orion/graph.h"

namespace orion::ane {

/// A weight of the legal graph as a form of a weight of the original one.
struct WeightUse {
  /// What becomes of the result's rows: nothing, or each is divided by a power of two that is a weight of its
  /// own.
  enum class Rows : std::uint8_t { as_given, divided, powers };

  std::string name;    // in the legal graph
  std::string source;  // in the original graph
  /// reshape, transpose and slice_by_index nodes, applied to the source one after the other.
  std::vector<Node> steps;
  TensorType type;         // of the result
  TensorType source_type;  // of the original graph's weight
  Rows rows = Rows::as_given;
};

/// An input or output of the legal graph as (a part of) one of the original graph.
struct PortUse {
  std::string name;        // in the legal graph
  std::string source;      // in the original graph
  TensorType type;         // in the legal graph: (1, C, H, W), padded with zeros at each axis' end
  TensorType source_type;  // in the original graph
  Shape shape;             // (1, C, H, W) without padding
  // Where the source is split among several ports: this one holds elements begin .. begin + count - 1 of
  // `axis`.
  int axis = 0;
  std::int64_t begin = 0;
  std::int64_t count = 0;  // 0: all of the source
};

/// What the port holds of the source: its whole type, or its share along one axis.
TensorType part_type(const PortUse& use);
/// How a port's value stands in four axes: (1, C, H, W) stays; everything else keeps its rows: (1, rows, 1,
/// W).
Shape four_axes(const Shape& shape);

/// The host's side of the ports, each source once.
std::vector<Port> source_ports(std::span<const PortUse> uses);

struct LegalProgram {
  Graph graph;
  std::vector<WeightUse> weights;
  std::vector<PortUse> inputs;   // in alphabetical order, which is the engine's
  std::vector<PortUse> outputs;  // the same
};

/// Rewrites a graph until `profile` takes it. Error naming the limit that no rewrite avoids.
LegalProgram legalize_program(const Graph& graph, const Profile& profile);

/// What to do about a weight beyond fp16.
inline constexpr std::string_view half_is_all = "that is all the engine has; run the program on the cpu";

/// Whether two uses are the same form of the same weight.
bool same_form(const WeightUse& a, const WeightUse& b);
/// The value of one weight of the legal graph. Error if `source` has another shape, or does not fit fp16.
Tensor legal_weight(const WeightUse& use, const Tensor& source);
/// Every weight of the program from those of the original graph. Error if one is missing.
TensorMap legal_weights(const LegalProgram& program, const TensorMap& sources);

/// Brings a value of the source into the port's memory, zeros around it.
void write_port(const PortUse& use, const Tensor& source, const Tensor& port);
/// Brings what the port holds into a value of the source; parts of a split source leave the rest alone.
void read_port(const PortUse& use, const Tensor& port, const Tensor& source);

/// Bytes that must be near the engine while a node runs: its operands, its result and what later nodes
/// still need.
struct SramEstimate {
  std::int64_t peak = 0;
  NodeId at = absent;               // where the peak is
  std::vector<std::int64_t> bytes;  // by node
};
/// Weights count while the node that uses them runs; reshapes cost nothing.
SramEstimate sram_estimate(const Graph& graph);
/// "0.25", for people.
std::string mebibytes(std::int64_t bytes);
/// The graph's text, each operation with what is held while it runs: "# 0.25 MiB".
std::string annotated(const Graph& graph, const SramEstimate& estimate);

}  // namespace orion::ane
