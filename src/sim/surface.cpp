#include "sim/surface.h"

#include "sim/errors.h"

namespace orion::sim {

SimSurface::SimSurface(std::size_t bytes, std::shared_ptr<Process> process)
    : process_(std::move(process)), memory_(std::make_shared<std::vector<std::byte>>(bytes)) {
  process_->count(&Counters::surfaces, 1);
}

SimSurface::~SimSurface() {
  process_->count(&Counters::surfaces, -1);
}

ane::Status SimSurface::lock(bool /*read_only*/) {
  ++locks_;
  return {};
}

ane::Status SimSurface::unlock() {
  int locks = locks_;
  while (locks > 0 && !locks_.compare_exchange_weak(locks, locks - 1)) {
  }
  return locks > 0 ? ane::Status{} : misuse("unlock", "the surface is not locked");
}

void* SimSurface::base() {
  return locks_ > 0 ? memory_->data() : nullptr;
}

}  // namespace orion::sim
