// Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): y = W x + scale B (A x), beside weights that stay as
// they are.
//
// A (r, in) and B (out, r), as the PEFT library stores them, for torch's Linear and GPT-2's Conv1D alike.
#pragma once

#include "orion/graph.h"

namespace orion {

struct ModelConfig;  // model.h

/// Which products of a model get an adapter, and how large it is.
struct LoraShape {
  std::int64_t rank = 8;
  /// Multiplies B (A x); PEFT's alpha / r, or alpha / sqrt(r) with rank-stabilised scaling.
  double scale = 1.0;
  /// Names of modules: "q_proj" means every module whose name ends in ".q_proj".
  std::vector<std::string> targets = {};

  bool operator==(const LoraShape&) const = default;
};

/// The adapter's tensors of one module.
struct LoraModule {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  std::int64_t in = 0;
  std::int64_t out = 0;
  bool transposed = false;  // its weight is (in, out), as GPT-2 has it, not (out, in)

  std::string a() const { return name + ".lora_A.weight"; }
  std::string b() const { return name + ".lora_B.weight"; }
};

/// Whether a module's name is one of the targets.
bool is_lora_target(std::string_view module, std::span<const std::string> targets);

/// Error for a rank that is not from 1 to 256.
void check_rank(const LoraShape& shape);
/// Every module of a graph that can have an adapter: a product with a matrix "<module>.weight", which is not
/// also a table that rows are taken from. In the order of use.
std::vector<LoraModule> linear_modules(const Graph& graph);
/// The graph with adapters beside the products of the targets' weights ("<module>.weight"), as weights named
/// `LoraModule::a()` and `b()`; `modules` says which. A graph without such a product is returned as it is.
/// With `masked` the A of modules[i] reads x times an input mask_<i> of x's type: dropout in training.
Graph with_lora(const Graph& graph, const LoraShape& shape, std::vector<LoraModule>& modules,
                bool masked = false);

/// An input that holds A (r, in) and B turned (r, out) of several modules side by side: devices that copy
/// their inputs want few.
struct PackedLora {
  struct Part {
    std::string tensor;  // `LoraModule::a()` or `b()`
    std::int64_t begin = 0;
    std::int64_t width = 0;
  };
  std::string port;
  std::int64_t rank = 0;
  std::int64_t width = 0;
  std::vector<Part> parts = {};
};
/// The same with the adapters' tensors packed into as few inputs as the engine's longest axis allows.
Graph with_packed_lora(const Graph& graph, const LoraShape& shape, std::vector<PackedLora>& ports);

/// Every module of a model that is a target, in the order of use. Error if there is none, or a target names
/// none.
std::vector<LoraModule> lora_modules(const ModelConfig& config, const LoraShape& shape);
/// Values to begin training with: A uniform in +-1 / sqrt(in), B zeros, so that the model is unchanged. fp32,
/// by their names.
TensorMap initial_lora(std::span<const LoraModule> modules, std::int64_t rank, std::uint64_t seed);

}  // namespace orion
