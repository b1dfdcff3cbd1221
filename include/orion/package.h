// A model compiled for an engine: a directory of programs and weights that runs without the checkpoint.
//
//   manifest.json    profile, programs with their weights and ports, and of every file its size and SHA-256
//   config.json      what the model is
//   programs/*.mil   a program for each segment of each layer and number of columns, as the engine takes it
//   weights/*.bin    packed weight files with their .names: each tensor once, whatever programs read it
//   ...              what else was given, the tokenizer's files
//
// A program's own weight file (`@model_path/weights/weight.bin`) is packed from the tensors that the manifest
// lists for it, when it is loaded: text and file are then those that the checkpoint itself compiles to.
#pragma once

#include "orion/segments.h"

#include <filesystem>

namespace orion {

struct PackageOptions {
  /// Whose limits the programs keep; "strict" runs on every engine that is known.
  std::string profile = "strict";
  /// Columns of the programs that read prompts. Empty: `prefill_buckets` up to what holds the context.
  std::vector<std::int64_t> buckets = {};
  /// Files to take along, content by name.
  std::map<std::string, std::string> files = {};
  /// Whether a package that is there is replaced. Other directories never are, unless they are empty.
  bool replace = false;
  /// Told after every program.
  std::function<void(std::size_t done, std::size_t programs)> progress = {};
};

/// Writes the whole package or, on any error, nothing. `config` is the content of a config.json. Error if a
/// weight is missing or does not fit fp16, or a program cannot be made legal.
void write_package(const std::filesystem::path& directory, std::string_view config,
                   const WeightSource& weights, const PackageOptions& options = {});

/// Whether the directory has a manifest.
bool is_package(const std::filesystem::path& directory);

struct PackageFile {
  std::string path;  // in the package, with `/`
  std::uint64_t bytes = 0;
  std::string sha256;  // 64 upper-case hexadecimal digits
};

/// A package that is there. Copies share it.
class Package {
 public:
  /// Reads manifest and configuration. Error unless every file is there in its size and every layer has its
  /// programs. Contents are compared with their hashes before they are used.
  explicit Package(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const;
  const ModelConfig& config() const;
  /// The profile it was made for.
  const std::string& profile() const;
  /// The version of Orion that wrote it.
  const std::string& version() const;
  /// Columns of the programs that read prompts, ascending.
  const std::vector<std::int64_t>& buckets() const;
  std::size_t programs() const;
  const std::vector<PackageFile>& files() const;

  /// The content of one of `files`. Error if it is not what was written.
  std::string read(std::string_view path) const;
  /// Error naming the first file that is not what was written.
  void verify() const;

  /// The model, its programs on `device`: an engine, or any other that runs the same programs; the rest on
  /// `host`. Error naming the limit if the device's profile does not take the programs.
  std::shared_ptr<TextModel> load(Device& device, Device& host) const;
  std::shared_ptr<TextModel> load(Device& device) const { return load(device, find_device("cpu")); }

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace orion
