// Training: a graph with its derivative, and the same in stages that may run on different devices.
//
//   forward    inputs -> outputs, and taps: values that a later stage reads
//   backward   d_<output>, inputs, taps -> d_<input>, and cuts: values that the last stage reads
//   weights    d_<output>, inputs, taps, cuts -> the weights' gradients, added to what they were
//
// Forward and backward follow each other layer by layer on one device; the weights' gradients wait for
// nobody and can be computed elsewhere meanwhile. Where all run on one device, backward can compute them too.
#pragma once

#include "orion/graph.h"

#include <functional>

namespace orion {

/// An output that is a weight's gradient, and the weight. Weights' names need not be identifiers.
struct GradientPort {
  std::string port;
  std::string weight;
};

/// A graph extended by its derivative. For each float output y there is an input d_<y>, the gradient of the
/// loss with respect to it; for each input x that was asked for an output d_<x>; for each weight an output
/// dw_<i>.
struct Differentiated {
  Graph graph;
  std::vector<std::string> outputs;  // of the original graph
  std::vector<GradientPort> gradients;
};

/// Differentiates by the inputs named and by every weight, or those that `trained` takes. Composite ops that
/// have no gradient are expanded, and those that `expand` asks for: what forward and backward have in common
/// is then computed once.
using NodeTest = std::function<bool(const Graph& graph, const Node& node)>;
using WeightTest = std::function<bool(std::string_view weight)>;
Differentiated differentiate(const Graph& graph, std::span<const std::string> inputs,
                             const NodeTest& expand = {}, const WeightTest& trained = {});

/// In one graph, fp32 inside; each gradient is a state: dw_<i> of before, plus the gradient.
Graph accumulating(const Differentiated& whole);

/// What `accumulating` gives, or a stage, with gradients as they are instead of added to their states, which
/// are no inputs then. A gradient that is scattered into its state still is: that has to be zeros.
Graph overwriting(const Graph& adding, std::span<const GradientPort> gradients);

struct Stages {
  Graph forward;
  Graph backward;  // empty if there is nothing for it to give
  Graph weights;   // fp32 inside; each gradient is a state: dw_<i> of before, plus the gradient
  std::vector<GradientPort> gradients;
};

/// What the outputs need runs forward, and what else the d_<input> need, backward. A stage reads the values
/// of earlier ones as they are and computes none of them again, but for reshapes and views of inputs and
/// weights, since they cost next to nothing, and what `repeat` names of the forward stage: time for the
/// memory of its results. Unless `apart`, the backward stage gives what the last one would, which is empty:
/// values that both read need no memory between programs.
Stages in_stages(const Differentiated& whole, const NodeTest& repeat = {}, bool apart = true);

/// Every weight, or those that `wanted` takes, as an input: its port and its name, in order of use.
struct WeightPort {
  std::string port;
  std::string weight;
};
Graph weights_as_inputs(const Graph& graph, std::vector<WeightPort>& ports, const WeightTest& wanted = {});

}  // namespace orion
