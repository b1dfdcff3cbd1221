// What the Neural Engine's framework does, as plain C++: two implementations, the framework itself
// (framework.mm) and the simulator (src/sim). Nothing here throws: every call returns a Status.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace orion::ane {

/// How a call went. A failure carries the framework's own words.
struct [[nodiscard]] Status {
  enum class Kind : std::uint8_t {
    ok,
    refused,      // the framework returned an error
    raised,       // the framework raised an exception
    timed_out,    // the call did not return in time; what it works on must not be used again
    unavailable,  // there is no framework, or not the one expected
    misused,      // our own mistake: a call out of order
  };

  Kind kind = Kind::ok;
  std::string call;    // "compile", "load", ...
  std::string domain;  // of the framework's error
  long code = 0;
  std::string text;

  bool ok() const { return kind == Kind::ok; }
  /// "compile: com.apple.appleneuralengine.compiler 1: InvalidMILProgram"
  std::string message() const;
};

/// Memory shared with the engine.
class Surface {
 public:
  virtual ~Surface() = default;
  virtual std::size_t bytes() const = 0;
  /// The CPU may touch the memory between lock and unlock only.
  virtual Status lock(bool read_only) = 0;
  virtual Status unlock() = 0;
  /// Valid while locked; the address stays the same.
  virtual void* base() = 0;
};

/// An input or output of a loaded model, as its compiler laid it out. Strides and sizes in bytes.
struct Symbol {
  std::string name;
  std::string type;  // "Float16", "Float32", ...
  std::int64_t batches = 1, channels = 1, depth = 1, height = 1, width = 1;
  std::int64_t batch_stride = 0;  // bytes the surface needs
  std::int64_t plane_stride = 0;  // between channels
  std::int64_t row_stride = 0;    // between rows of `width`
  std::int64_t interleave = 1;    // channels side by side in a row
};

/// One of a program's functions. Symbols are numbered over the whole program, inputs and outputs apart.
struct Procedure {
  std::int64_t index = 0;
  std::vector<std::int64_t> inputs;
  std::vector<std::int64_t> outputs;
};

/// A procedure's symbols in the order in which surfaces are bound, and their numbers.
struct Layout {
  std::vector<Symbol> inputs;
  std::vector<Symbol> outputs;
  Procedure procedure = {};
  std::vector<Layout> others = {};  // of the program's further procedures
};

/// One file beside the program's text: "@model_path/weights/weight.bin".
struct WeightFileData {
  std::string path;
  std::span<const std::byte> bytes;
};

/// One compiled, or to be compiled, program.
class Model {
 public:
  virtual ~Model() = default;
  /// Of the text and the weights it was made from; the framework's cache key.
  virtual std::string identifier() = 0;
  /// The staging directory the framework reads: text and weight files.
  virtual std::string directory() = 0;
  virtual bool compiled_exists() = 0;
  virtual Status compile() = 0;
  virtual Status load() = 0;
  virtual Status unload() = 0;
  virtual Status purge() = 0;
  /// Loaded models only. `unavailable` where the framework does not tell.
  virtual Status layout(Layout& layout) = 0;
  /// Builds the request for these surfaces, one for each of the procedure's symbols; kept until the next
  /// bind.
  virtual Status bind_procedure(const Procedure& procedure, std::span<Surface* const> inputs,
                                std::span<Surface* const> outputs) = 0;
  /// Of the only procedure, in symbol order.
  Status bind(std::span<Surface* const> inputs, std::span<Surface* const> outputs);
  virtual Status evaluate() = 0;
};

struct EngineInfo {
  std::string framework;             // path, or "simulator"
  std::string chip;                  // "h16g", or the profile's name
  std::string os_build;              // "24A335"
  bool on_disk = true;               // whether findings about it are worth keeping for other processes
  std::vector<std::string> found;    // classes and selectors that are as expected
  std::vector<std::string> missing;  // those that are not, with what was found instead
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual EngineInfo info() = 0;
  virtual Status create_surface(std::size_t bytes, std::unique_ptr<Surface>& surface) = 0;
  /// Stages the text and files and makes a model of them; nothing is compiled yet. The bytes need not
  /// outlive the call.
  virtual Status create_model(std::string_view text, std::span<const WeightFileData> files,
                              std::unique_ptr<Model>& model) = 0;
};

/// The framework at `path` (empty: ORION_ANE_FRAMEWORK, else the system's). `unavailable`, saying why, in
/// builds without Objective-C++ and on machines without the framework.
Status open_framework(std::string_view path, std::unique_ptr<Engine>& engine);

}  // namespace orion::ane
