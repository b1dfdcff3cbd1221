#include "ane/probe_trial.h"

#include "ane/image.h"
#include "orion/error.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace orion::ane {
namespace {

struct Rows {
  std::size_t count;
  std::size_t bytes;   // of one row's data
  std::size_t stride;  // between rows

  std::size_t needed() const { return count * stride; }
};

Rows rows_of(const Tensor& value, const Surfacing& surfacing) {
  const auto width = static_cast<std::size_t>(value.shape().back());
  const std::size_t bytes = width * dtype_size(value.dtype());
  const std::size_t alignment = surfacing.row_alignment;
  return {static_cast<std::size_t>(value.shape().size()) / width, bytes,
          (bytes + alignment - 1) / alignment * alignment};
}

std::size_t surface_bytes(std::span<const Bound> values, const Surfacing& surfacing) {
  std::size_t most = surfacing.least_bytes;
  for (const Bound& bound : values) most = std::max(most, rows_of(bound.value, surfacing).needed());
  return most;
}

class Surfaces {
 public:
  Status create(Engine& engine, std::span<const Bound> values, const Surfacing& surfacing) {
    const std::size_t common = surfacing.least_bytes == 0 ? 0 : surface_bytes(values, surfacing);
    for (const Bound& bound : values) {
      const std::size_t bytes = std::max(common, rows_of(bound.value, surfacing).needed());
      std::unique_ptr<Surface> surface;
      if (Status status = engine.create_surface(bytes, surface); !status.ok()) return status;
      bound_.push_back(surface.get());
      owned_.push_back(std::move(surface));
    }
    return {};
  }

  std::span<Surface* const> bound() const { return bound_; }

  template <class Copy>
  Status each_row(std::size_t index, const Tensor& value, const Surfacing& surfacing, bool read_only,
                  const Copy& copy) {
    Surface& surface = *bound_[index];
    if (Status status = surface.lock(read_only); !status.ok()) return status;
    auto* memory = static_cast<std::byte*>(surface.base());
    const Rows rows = rows_of(value, surfacing);
    for (std::size_t row = 0; row < rows.count; ++row)
      copy(memory + row * rows.stride, value.data() + row * rows.bytes, rows.bytes);
    return surface.unlock();
  }

 private:
  std::vector<std::unique_ptr<Surface>> owned_;
  std::vector<Surface*> bound_;
};

}  // namespace

ProbeProgram program_of(const Graph& graph, const TensorMap& weights) {
  const auto value_of = [&](const mil::BlobEntry& entry) { return weights.at(entry.name); };
  Image image = make_image(make_blueprint(graph), value_of);
  ProbeProgram program{std::move(image.text)};
  if (!image.weights.empty()) program.files.push_back({std::string(weight_path), std::move(image.weights)});
  return program;
}

std::unique_ptr<Model> loaded(Engine& engine, const ProbeProgram& program, Status& status, bool on_demand) {
  std::vector<WeightFileData> files;
  for (const ProbeFile& file : program.files) files.push_back({file.path, file.bytes});
  std::unique_ptr<Model> model;
  status = engine.create_model(program.text, files, model);
  if (status.ok() && !on_demand) status = model->compile();
  if (status.ok()) status = model->load();
  return status.ok() ? std::move(model) : nullptr;
}

Status evaluate(Engine& engine, Model& model, std::span<const Bound> inputs, std::span<Bound> outputs,
                const Surfacing& surfacing, const Procedure* procedure) {
  Surfaces in;
  Surfaces out;
  Status status = in.create(engine, inputs, surfacing);
  if (status.ok()) status = out.create(engine, outputs, surfacing);
  for (std::size_t i = 0; i < inputs.size() && status.ok(); ++i)
    status = in.each_row(
        i, inputs[i].value, surfacing, false,
        [](std::byte* surface, const std::byte* value, std::size_t n) { std::memcpy(surface, value, n); });
  if (status.ok())
    status = procedure == nullptr ? model.bind(in.bound(), out.bound())
                                  : model.bind_procedure(*procedure, in.bound(), out.bound());
  if (status.ok()) status = model.evaluate();
  for (std::size_t i = 0; i < outputs.size() && status.ok(); ++i)
    status = out.each_row(
        i, outputs[i].value, surfacing, true,
        [](std::byte* surface, std::byte* value, std::size_t n) { std::memcpy(value, surface, n); });
  return status;
}

Status run(Engine& engine, const ProbeProgram& program, std::span<const Bound> inputs,
           std::span<Bound> outputs, const Surfacing& surfacing) {
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, program, status);
  if (model == nullptr) return status;
  status = evaluate(engine, *model, inputs, outputs, surfacing);
  const Status unloaded = model->unload();
  return status.ok() ? unloaded : status;
}

std::vector<Bound> sorted(const TensorMap& values) {
  std::vector<Bound> bound;
  for (const auto& [name, value] : values) bound.push_back({name, value});
  return bound;
}

Tensor noise(const TensorType& type, std::uint32_t seed) {
  Tensor values(TensorType{DType::fp32, type.shape});
  std::uint32_t state = seed;
  for (float& value : values.as<float>()) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8U) / 16777216.0F - 0.5F;
  }
  return convert(values, type.dtype);
}

bool close(const Tensor& a, const Tensor& b) {
  constexpr double tolerance = 0x1p-7;
  double largest = 0x1p-6;
  for (std::int64_t i = 0; i < b.shape().size(); ++i) largest = std::max(largest, std::abs(b.at(i)));
  for (std::int64_t i = 0; i < b.shape().size(); ++i)
    if (!(std::abs(a.at(i) - b.at(i)) <= tolerance * largest)) return false;
  return a.shape() == b.shape();
}

}  // namespace orion::ane
