// A simulated engine with one program on it, for tests.
#pragma once

#include "ane/image.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"
#include "sim/simulator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

namespace sim_bench {

using namespace orion;

/// A profile of its own name (so of its own process) that holds these limits only.
inline ane::Profile profile_with(std::string name, std::vector<std::string> limits) {
  return {.name = std::move(name), .doc = "", .limits = std::move(limits)};
}

inline Tensor halves(const Shape& shape, std::initializer_list<double> values) {
  const Tensor wide(TensorType{DType::fp32, shape});
  std::ranges::transform(values, wide.as<float>().begin(), [](double v) { return static_cast<float>(v); });
  return convert(wide, DType::fp16);
}

inline std::vector<double> values_of(const Tensor& tensor) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < tensor.shape().size(); ++i) values.push_back(tensor.at(i));
  return values;
}

inline ane::Image image_of(const Graph& graph, const TensorMap& weights = {}) {
  return ane::make_image(ane::make_blueprint(graph), [&](const mil::BlobEntry& entry) {
    return entry.value.empty() ? weights.at(entry.name) : entry.value;
  });
}

struct Bench {
  explicit Bench(const ane::Profile& of) : profile(of), engine(sim::open_simulator(of)) {}

  std::unique_ptr<ane::Model> model(std::string_view text, std::span<const ane::WeightFileData> files) {
    std::unique_ptr<ane::Model> made;
    const ane::Status status = engine->create_model(text, files, made);
    REQUIRE_MESSAGE(status.ok(), status.message());
    return made;
  }

  std::unique_ptr<ane::Model> model(const ane::Image& image) {
    const ane::WeightFileData file{std::string(ane::weight_path), image.weights};
    return model(image.text, std::span(&file, image.weights.empty() ? 0 : 1));
  }

  std::unique_ptr<ane::Model> loaded(const ane::Image& image) {
    std::unique_ptr<ane::Model> made = model(image);
    for (const ane::Status& status : {made->compile(), made->load()})
      REQUIRE_MESSAGE(status.ok(), status.message());
    return made;
  }

  std::unique_ptr<ane::Surface> surface(std::size_t bytes) {
    std::unique_ptr<ane::Surface> made;
    REQUIRE(engine->create_surface(bytes, made).ok());
    return made;
  }

  /// A surface that begins with the tensor's bytes.
  std::unique_ptr<ane::Surface> surface(const Tensor& tensor, std::size_t bytes = 0) {
    std::unique_ptr<ane::Surface> made = surface(std::max(bytes, tensor.bytes()));
    REQUIRE(made->lock(false).ok());
    std::memcpy(made->base(), tensor.data(), tensor.bytes());
    REQUIRE(made->unlock().ok());
    return made;
  }

  static Tensor content(ane::Surface& surface, const TensorType& type) {
    const Tensor tensor(type);
    REQUIRE(surface.lock(true).ok());
    std::memcpy(tensor.data(), surface.base(), tensor.bytes());
    REQUIRE(surface.unlock().ok());
    return tensor;
  }

  /// Runs a graph on packed surfaces, inputs in the order given.
  Tensor run(const Graph& graph, std::initializer_list<Tensor> inputs, const TensorMap& weights = {}) {
    const auto program = loaded(image_of(graph, weights));
    std::vector<std::unique_ptr<ane::Surface>> surfaces;
    std::vector<ane::Surface*> in;
    for (const Tensor& input : inputs) in.push_back(surfaces.emplace_back(surface(input)).get());
    const TensorType& type = graph.node(graph.outputs().front().node).type;
    const auto out = surface(type.bytes());
    ane::Surface* const outs[] = {out.get()};
    REQUIRE(program->bind(in, outs).ok());
    const ane::Status status = program->evaluate();
    REQUIRE_MESSAGE(status.ok(), status.message());
    return content(*out, type);
  }

  ane::Profile profile;
  std::unique_ptr<ane::Engine> engine;
};

}  // namespace sim_bench
