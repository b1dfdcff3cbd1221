// A surface's memory as the client sees it, in pages of its own that can be closed.
#pragma once

#include "ane/engine.h"

#include <mutex>

namespace orion::framework {

class Memory {
 public:
  /// As large as the simulator's surface, which it owns; null if there is no memory.
  static std::unique_ptr<Memory> allocate(std::unique_ptr<ane::Surface> simulated);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  /// Locks nest. With ORION_SIM_STRICT=1 the memory can be read or written while a lock says so.
  void lock(bool read_only);
  /// Undoes the last lock; false if it was of the other kind, or there is none.
  bool unlock(bool read_only);
  void* base() const { return memory_; }
  std::size_t bytes() const { return simulated_->bytes(); }

  ane::Surface& simulated() const { return *simulated_; }
  /// To the simulator's surface.
  void send();
  /// From it.
  void receive();

 private:
  Memory(void* memory, std::unique_ptr<ane::Surface> simulated);
  void protect() const;
  void copy(bool to_simulator);

  void* memory_;
  std::unique_ptr<ane::Surface> simulated_;
  std::mutex mutex_;
  std::vector<bool> locks_;  // whether each is for reading only
};

}  // namespace orion::framework
