// Devices turn a graph and its weights into a program that runs.
#pragma once

#include "orion/graph.h"
#include "orion/matrix_format.h"

#include <limits>
#include <memory>

namespace orion {

struct PackedProgram;
struct PackedWeights;  // packed_weights.h

/// A device's own copy of a set of named weights, shared by every program compiled with it.
class DeviceWeights {
 public:
  virtual ~DeviceWeights() = default;
  virtual std::vector<Port> list() const = 0;
  /// The current value of one weight, in the type it was given; what its format has rounded is rounded.
  virtual Tensor read(std::string_view name) const = 0;
  /// Replaces whole weights; the programs that share them see the new values at their next run, without
  /// planning again. All or nothing: on Error no weight has changed.
  virtual void update(const TensorMap& changes) = 0;
  /// Bytes of memory held.
  virtual std::size_t bytes() const = 0;
  /// The weights in the forms that the programs compiled so far read. The memory is shared: they must not
  /// change while it is used. Error if this device has no such forms.
  virtual PackedWeights packed() const;
};

/// A compiled graph. One caller at a time; several programs may run at once.
class Program {
 public:
  virtual ~Program() = default;
  virtual const std::vector<Port>& inputs() const = 0;
  virtual const std::vector<Port>& outputs() const = 0;
  /// The memory of an input or output. Each has its own until `bind` replaces it; an output that
  /// repeats an input's name shares the input's memory.
  virtual Tensor buffer(std::string_view port) const = 0;
  /// Makes the next runs read or write `memory` (not copied, same type, kept alive).
  virtual void bind(std::string_view port, Tensor memory) = 0;
  /// Reads the inputs, writes the outputs. Allocates nothing.
  virtual void run() = 0;
  virtual std::shared_ptr<DeviceWeights> weights() const = 0;
  /// Where it runs: "cpu".
  virtual std::string_view device() const = 0;
  /// The plan for people: one line per step, and the memory it takes.
  virtual std::string describe() const = 0;
};

/// What one program of a device may be, and how many there may be.
struct ProgramLimits {
  static constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();

  std::int64_t channels = none;       // of what a product with a weight gives
  std::int64_t weight_bytes = none;   // of one program
  std::int64_t working_bytes = none;  // held at once; a program that needs more is slow
  std::int64_t loaded = none;         // programs at once
  std::int64_t compiles_left = none;  // in this process, for programs that were not compiled before
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  /// As they are now.
  virtual ProgramLimits limits() const { return {}; }
  /// Takes weights over. The tensors are read when programs that use them are compiled and must not
  /// change until then.
  virtual std::shared_ptr<DeviceWeights> load(const TensorMap& weights) = 0;
  /// The same, the matrices that products read being kept in a format. Error if this device has `exact`
  /// alone.
  virtual std::shared_ptr<DeviceWeights> load_as(const TensorMap& weights, MatrixFormat format);
  /// The same of what `DeviceWeights::packed` gave, in this process or another: nothing is packed or copied,
  /// and the memory stays the caller's, so these weights do not change. Error if a matrix is not as large as
  /// its form asks for, or this device has no such forms.
  virtual std::shared_ptr<DeviceWeights> load_packed(const PackedWeights& weights);
  /// Error if the graph needs a weight that is missing or of another shape. A float weight of another
  /// width is converted; a value that does not fit fp16 is an Error.
  virtual std::unique_ptr<Program> compile(const Graph& graph, std::shared_ptr<DeviceWeights> weights) = 0;
  /// Whether programs compute on the memory bound to their ports. Weights that change are then best given as
  /// inputs, which costs nothing; elsewhere `DeviceWeights::update` brings them over.
  virtual bool shares_host_memory() const { return false; }
  /// Error if this device does not take a program (MIL text) as it is.
  virtual void check(std::string_view text) const;
  /// A program that was made before and is taken as it is, nothing rewritten. Error unless `check` lets it
  /// pass and the weights are those it names.
  virtual std::unique_ptr<Program> open(const PackedProgram& program, std::shared_ptr<DeviceWeights> weights);
};

/// "cpu", or "auto" for the best one here; Error listing the devices for any other name.
Device& find_device(std::string_view name);
std::vector<std::string> device_names();

}  // namespace orion
