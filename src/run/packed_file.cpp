#include "orion/packed_file.h"

#include "base/file.h"
#include "base/sha256.h"
#include "orion/error.h"
#include "run/packed_layout.h"

namespace orion {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.data(), tensor.bytes()};
}

std::string hash_of(const PackedEntry& entry, std::span<const std::byte> content) {
  return Sha256().update(described(entry)).update(content).hex();
}

Tensor view_of(const MappedFile& file, const TensorType& type, std::uint64_t begin) {
  return Tensor::view(type, const_cast<std::byte*>(file.bytes().data()) + begin, file.owner());
}

void add_view(const MappedFile& file, const PackedEntry& entry, std::uint64_t begin, PackedWeights& weights) {
  if (!entry.form) {
    weights.tensors[entry.name] = view_of(file, entry.type, begin);
    return;
  }
  const TensorType bytes{DType::boolean, {static_cast<std::int64_t>(entry.bytes)}};
  weights.matrices[entry.name] = {entry.type, entry.form->format, entry.form->transposed,
                                  view_of(file, bytes, begin)};
}

// -- writing --------------------------------------------------------------------------------------

struct Content {
  PackedEntry entry;
  Tensor memory;
};

// Matrices first: they are whole multiples of 64 bytes, so each lies at one.
std::vector<Content> contents_of(const PackedWeights& weights) {
  std::vector<Content> contents;
  const auto add = [&](PackedEntry entry, const Tensor& memory) {
    entry.bytes = memory.bytes();
    entry.sha256 = hash_of(entry, bytes_of(memory));
    contents.push_back({std::move(entry), memory});
  };
  for (const auto& [name, matrix] : weights.matrices)
    add({.name = name, .type = matrix.type, .form = PackedMatrixForm{matrix.format, matrix.transposed}},
        matrix.content);
  for (const auto& [name, tensor] : weights.tensors) add({.name = name, .type = tensor.type()}, tensor);
  return contents;
}

}  // namespace

void write_packed_file(const fs::path& path, const ModelConfig& config, const WeightSource& source,
                       std::string_view dtype, std::string_view made_from) {
  const Precision precision = precision_from_name(dtype);
  LanguageModel model(config, source, precision, find_device("cpu"));
  const std::vector<Content> contents = contents_of(model.packed());
  PackedLayout layout{.dtype = std::string(dtype), .source = std::string(made_from)};
  for (const Content& content : contents) layout.entries.push_back(content.entry);
  const std::string first = packed_layout_text(layout);
  ReplacedFile file(path);
  file.write(std::as_bytes(std::span(first)));
  for (const Content& content : contents) file.write(bytes_of(content.memory));
  file.commit();
}

struct PackedFile::State {
  explicit State(const fs::path& from)
      : path(from.string()), file(from), layout(read_packed_layout(file.bytes(), path)) {
    weights.format = precision_from_name(layout.dtype).matrices;
    for (const PackedEntry& entry : layout.entries) add_view(file, entry, layout.data + entry.begin, weights);
  }

  void verify() const {
    for (const PackedEntry& entry : layout.entries) {
      const auto content = file.bytes().subspan(layout.data + entry.begin, entry.bytes);
      if (hash_of(entry, content) != entry.sha256)
        fail(path, ": tensor '", entry.name,
             "' is not what was written (SHA-256 differs); convert the model again");
    }
  }

  std::string path;
  MappedFile file;
  PackedLayout layout;
  PackedWeights weights;
};

PackedFile::PackedFile(const fs::path& path) : state_(std::make_shared<State>(path)) {}

const std::string& PackedFile::dtype() const {
  return state_->layout.dtype;
}
const std::string& PackedFile::source() const {
  return state_->layout.source;
}
const PackedWeights& PackedFile::weights() const {
  return state_->weights;
}

void PackedFile::verify() const {
  state_->verify();
}

}  // namespace orion
