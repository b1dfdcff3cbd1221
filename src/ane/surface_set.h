// The inputs and outputs of a loaded program, bound by name.
#pragma once

#include "ane/runtime.h"
#include "ane/surfaces.h"
#include "orion/device.h"

namespace orion::ane {

/// One surface per port. Between runs the CPU holds them all locked, so that host memory can be a view of
/// them; a run hands them to the engine and takes them back. One that could not be locked again after a run
/// is locked when it is needed next.
class SurfaceSet {
 public:
  /// Ports as the program's text declares them. Order and strides are those the loaded model reports;
  /// where it reports none, names in alphabetical order and the profile's rules.
  SurfaceSet(Runtime& runtime, const Loaded& loaded, std::span<const Port> inputs,
             std::span<const Port> outputs);
  ~SurfaceSet();
  SurfaceSet(const SurfaceSet&) = delete;
  SurfaceSet& operator=(const SurfaceSet&) = delete;

  /// `value` has the port's type.
  void write(std::string_view port, const Tensor& value);
  void read(std::string_view port, const Tensor& value) const;
  /// The surface's own memory if it is dense, else an empty tensor. Not to be touched during `run`.
  Tensor view(std::string_view port) const;
  /// DeviceError with the engine's words.
  void run(Loaded& loaded);

 private:
  struct Item {
    Port port;
    Placement placement;
    std::unique_ptr<Surface> surface;
  };

  void add(Runtime& runtime, std::span<const Port> ports, std::span<const Symbol> symbols,
           std::vector<Surface*>& order);
  const Item& item(std::string_view port) const;
  void* memory(const Item& item) const;
  Status unlock_all() const;
  Status lock_all() const;

  std::uint64_t number_;  // unlike an address, never used twice
  std::vector<Item> items_;
  std::vector<Surface*> inputs_;  // in the order of binding
  std::vector<Surface*> outputs_;
};

}  // namespace orion::ane
