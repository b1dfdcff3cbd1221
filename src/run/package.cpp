// Reading a package: nothing is believed before its hash and its form are checked.
#include "orion/package.h"

#include "base/file.h"
#include "base/sha256.h"
#include "orion/error.h"
#include "run/engine_model.h"
#include "run/manifest.h"
#include "run/package_shapes.h"

#include <algorithm>

namespace orion {
namespace {

namespace fs = std::filesystem;

DType dtype_of(weights::BlobType type, std::string_view what) {
  switch (type) {
    case weights::BlobType::fp16:
      return DType::fp16;
    case weights::BlobType::fp32:
      return DType::fp32;
    case weights::BlobType::int32:
      return DType::int32;
    default:
      fail(what, ": is ", weights::type_name(type), ", fp16, fp32 or int32 is needed");
  }
}

Tensor tensor_of(const weights::Chunk& chunk, const MappedFile& file, std::string_view what) {
  const TensorType type{dtype_of(chunk.type, what), Shape(std::span(chunk.shape))};
  if (type.bytes() != chunk.data.size())
    fail(what, ": ", chunk.data.size(), " bytes, ", type, " has ", type.bytes());
  return Tensor::view(type, const_cast<std::byte*>(chunk.data.data()), file.owner());
}

// Gives every port the type that its source has in the segment, and every source a port.
void find_sources(std::vector<ane::PortUse>& uses, std::span<const Port> ports) {
  for (ane::PortUse& use : uses) {
    const auto port = std::ranges::find(ports, use.source, &Port::name);
    if (port == ports.end()) fail("port '", use.name, "' stands for '", use.source, "', which is not there");
    use.source_type = port->type;
  }
  for (const Port& port : ports)
    if (std::ranges::find(uses, port.name, &ane::PortUse::source) == uses.end())
      fail("no port stands for '", port.name, "' ", port.type);
}

// The same error with its place in front.
template <class Act>
auto placed(const std::string& place, const Act& act) {
  try {
    return act();
  } catch (const DeviceError&) {
    throw;
  } catch (const Error& error) {
    fail(place, ": ", error.what());
  }
}

}  // namespace

struct Package::State {
  fs::path directory;
  Manifest manifest;
  ModelConfig config;
  std::vector<std::int64_t> buckets;
  std::map<SegmentShape, const PackedSegment*> programs;

  std::string place(std::string_view file) const { return (directory / file).string(); }

  void check_sizes() const {
    for (const PackageFile& file : manifest.files) {
      std::error_code error;
      const std::uint64_t bytes = fs::file_size(directory / file.path, error);
      if (error) fail(place(file.path), ": missing: ", error.message());
      if (bytes != file.bytes) fail(place(file.path), ": ", bytes, " bytes, ", file.bytes, " were written");
    }
  }

  void read_configuration() {
    config = placed(place(config_file), [&] { return configure(read_config(read(config_file))); });
    for (const PackedSegment& packed : manifest.programs) {
      programs.emplace(packed.shape, &packed);
      if (packed.shape.kind == SegmentKind::attention && packed.shape.layer == 0)
        buckets.push_back(packed.shape.tokens);
    }
    std::ranges::sort(buckets);
    if (buckets.empty()) fail(place(manifest_file), ": no program reads prompts");
    if (manifest.programs.size() != package_programs(config, buckets))
      fail(place(manifest_file), ": ", manifest.programs.size(), " programs, ", config.layers, " layers for ",
           buckets.size(), " lengths of prompts have ", package_programs(config, buckets));
    for (std::int64_t layer = 0; layer < config.layers; ++layer)
      for (const SegmentShape& shape : package_shapes(layer, buckets)) static_cast<void>(program(shape));
  }

  const PackedSegment& program(const SegmentShape& shape) const {
    const auto found = programs.find(shape);
    if (found == programs.end())
      fail(place(manifest_file), ": no program ", segment_name(shape.kind), " of layer ", shape.layer,
           " with ", shape.tokens, " columns");
    return *found->second;
  }

  MappedFile verified(std::string_view path) const {
    const auto file = std::ranges::find(manifest.files, path, &PackageFile::path);
    if (file == manifest.files.end()) fail(directory.string(), ": the package has no file '", path, "'");
    MappedFile content(directory / path);
    if (content.bytes().size() != file->bytes || sha256_hex(content.bytes()) != file->sha256)
      fail(place(path), ": is not what was written (SHA-256 differs); compile the model again");
    return content;
  }

  std::string read(std::string_view path) const {
    const MappedFile file = verified(path);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }

  void add_tensors(const std::string& path, TensorMap& tensors) const {
    const MappedFile file = verified(path);
    std::vector<weights::Chunk> chunks = weights::read_chunks(file.bytes(), place(path));
    weights::read_names(read(names_file(path)), place(names_file(path)), chunks);
    for (const weights::Chunk& chunk : chunks) {
      const std::string what = str(place(path), ": '", chunk.name, '\'');
      if (!tensors.try_emplace(chunk.name, tensor_of(chunk, file, what)).second)
        fail(what, ": another file has a tensor of that name");
    }
  }

  void check(const Device& device) const {
    for (const SegmentShape& shape : package_shapes(0, buckets)) {
      const std::string& file = program(shape).text;
      placed(str(place(file), ", made for profile '", manifest.profile, "', on ", device.name()),
             [&] { device.check(read(file)); });
    }
  }

  std::unique_ptr<Program> open(const SegmentShape& shape, Device& device,
                                const std::shared_ptr<DeviceWeights>& tensors) const {
    const PackedSegment& packed = program(shape);
    return placed(place(packed.text), [&] {
      const Graph graph = segment(config, shape);
      PackedProgram whole{read(packed.text), packed.weights, packed.inputs, packed.outputs};
      find_sources(whole.inputs, input_ports(graph));
      find_sources(whole.outputs, output_ports(graph));
      return device.open(whole, tensors);
    });
  }
};

bool is_package(const fs::path& directory) {
  std::error_code ignored;  // then it is none
  return fs::is_regular_file(directory / manifest_file, ignored);
}

Package::Package(const fs::path& directory) {
  const fs::path file = directory / manifest_file;
  if (!is_package(directory)) fail(directory.string(), ": no package (it has no ", manifest_file, ")");
  auto state = std::make_shared<State>();
  state->directory = directory;
  state->manifest = read_manifest(read_file(file), file.string());
  state->check_sizes();
  state->read_configuration();
  state_ = std::move(state);
}

const fs::path& Package::directory() const {
  return state_->directory;
}
const ModelConfig& Package::config() const {
  return state_->config;
}
const std::string& Package::profile() const {
  return state_->manifest.profile;
}
const std::string& Package::version() const {
  return state_->manifest.version;
}
const std::vector<std::int64_t>& Package::buckets() const {
  return state_->buckets;
}
std::size_t Package::programs() const {
  return state_->manifest.programs.size();
}
const std::vector<PackageFile>& Package::files() const {
  return state_->manifest.files;
}

std::string Package::read(std::string_view path) const {
  return state_->read(path);
}

void Package::verify() const {
  for (const PackageFile& file : state_->manifest.files) static_cast<void>(state_->verified(file.path));
}

std::shared_ptr<TextModel> Package::load(Device& device, Device& host) const {
  state_->check(device);
  TensorMap on_engine;
  for (const std::string& file : state_->manifest.weights) state_->add_tensors(file, on_engine);
  TensorMap on_host;
  for (const Port& port : host_weights(state_->config, true)) {
    auto tensor = on_engine.extract(port.name);
    if (tensor.empty())
      fail(state_->directory.string(), ": no tensor '", port.name, "', which is ", port.type);
    on_host.insert(std::move(tensor));
  }
  EngineParts parts;
  parts.buckets = state_->buckets;
  parts.host_weights = host.load(on_host);
  parts.program = [state = state_, &device, tensors = device.load(on_engine)](
                      const SegmentShape& shape, const LoraShape& capacity, std::vector<PackedLora>&) {
    if (!capacity.targets.empty())
      fail(state->directory.string(),
           ": a package's programs have no room for adapters; load the checkpoint");
    return state->open(shape, device, tensors);
  };
  return std::make_shared<EngineModel>(state_->config, device, host, EngineUse::prefill_and_decode,
                                       std::move(parts));
}

}  // namespace orion
