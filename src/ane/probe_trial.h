// Running one small program on an engine, with nothing between the probe and the engine.
#pragma once

#include "ane/engine.h"
#include "orion/graph.h"

namespace orion::ane {

struct ProbeFile {
  std::string path;  // "@model_path/weights/weight.bin"
  std::vector<std::byte> bytes;
};

struct ProbeProgram {
  std::string text;
  std::vector<ProbeFile> files = {};
};

/// A graph as text; weights are given by name.
ProbeProgram program_of(const Graph& graph, const TensorMap& weights = {});

/// A value of four axes, fp16 or fp32, in the order of binding.
struct Bound {
  std::string name;
  Tensor value;
};

/// How values lie on surfaces.
struct Surfacing {
  std::size_t row_alignment = 64;       // bytes; 1: packed
  std::size_t least_bytes = 64 * 1024;  // of a surface; 0: as many as the rows take
};

/// Compiles unless `on_demand`, and loads. Null, with `status` saying why, if the engine refuses.
std::unique_ptr<Model> loaded(Engine& engine, const ProbeProgram& program, Status& status,
                              bool on_demand = false);

/// Writes the inputs, evaluates, reads the outputs (whose values give their types). The only procedure,
/// unless one is given.
Status evaluate(Engine& engine, Model& model, std::span<const Bound> inputs, std::span<Bound> outputs,
                const Surfacing& surfacing = {}, const Procedure* procedure = nullptr);

/// All of it.
Status run(Engine& engine, const ProbeProgram& program, std::span<const Bound> inputs,
           std::span<Bound> outputs, const Surfacing& surfacing = {});

/// By name, as the engine is reported to order them.
std::vector<Bound> sorted(const TensorMap& values);

/// fp16 values in [-0.5, 0.5), always the same.
Tensor noise(const TensorType& type, std::uint32_t seed = 1);
/// Equal up to a few units in the last place of fp16.
bool close(const Tensor& a, const Tensor& b);

}  // namespace orion::ane
