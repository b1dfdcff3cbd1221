// Packed weights as a file that is mapped: loading reads no matrix, and processes share its pages.
//
// The container is safetensors. A matrix is a U8 tensor, at a multiple of 64 bytes, that holds its panels;
// what they are is in the metadata, as are format, version, dtype and a SHA-256 of every tensor. All else is
// plain.
#pragma once

#include "orion/model.h"
#include "orion/packed_weights.h"

#include <filesystem>

namespace orion {

/// Packs a model's weights as `LanguageModel` does for a dtype (see `precision_from_name`) and writes them,
/// whole or, on any error, not at all. `source` says what they were made from, such as a hash.
void write_packed_file(const std::filesystem::path& path, const ModelConfig& config,
                       const WeightSource& weights, std::string_view dtype, std::string_view source);

/// A file of packed weights, mapped. Copies share it.
class PackedFile {
 public:
  /// Error unless every tensor lies in the file, in a form that this version knows. Contents are not read.
  explicit PackedFile(const std::filesystem::path& path);

  const std::string& dtype() const;
  Precision precision() const { return precision_from_name(dtype()); }
  const std::string& source() const;
  /// Views of the mapped file, which they keep.
  const PackedWeights& weights() const;
  /// Reads everything; Error naming the first tensor that is not what was written.
  void verify() const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace orion
