// Memory shared between the host and the simulated engine.
#pragma once

#include "ane/engine.h"
#include "sim/process.h"

#include <atomic>

namespace orion::sim {

/// The memory outlives the surface while a request holds it.
using Memory = std::shared_ptr<std::vector<std::byte>>;

class SimSurface : public ane::Surface {
 public:
  SimSurface(std::size_t bytes, std::shared_ptr<Process> process);
  ~SimSurface() override;
  SimSurface(const SimSurface&) = delete;
  SimSurface& operator=(const SimSurface&) = delete;

  std::size_t bytes() const override { return memory_->size(); }
  ane::Status lock(bool read_only) override;
  ane::Status unlock() override;
  /// Null while nobody has the lock.
  void* base() override;

  const Memory& memory() const { return memory_; }

 private:
  std::shared_ptr<Process> process_;
  Memory memory_;
  std::atomic<int> locks_ = 0;
};

}  // namespace orion::sim
