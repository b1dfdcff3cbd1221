#include "framework/memory.h"

#include <sys/mman.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace orion::framework {
namespace {

bool is_strict() {
  const char* value = std::getenv("ORION_SIM_STRICT");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace

std::unique_ptr<Memory> Memory::allocate(std::unique_ptr<ane::Surface> simulated) {
  void* memory =
      ::mmap(nullptr, simulated->bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  return std::unique_ptr<Memory>(new Memory(memory, std::move(simulated)));
}

Memory::Memory(void* memory, std::unique_ptr<ane::Surface> simulated)
    : memory_(memory), simulated_(std::move(simulated)) {
  protect();
}

Memory::~Memory() {
  ::munmap(memory_, bytes());
}

void Memory::lock(bool read_only) {
  const std::lock_guard lock(mutex_);
  locks_.push_back(read_only);
  protect();
}

bool Memory::unlock(bool read_only) {
  const std::lock_guard lock(mutex_);
  if (locks_.empty() || locks_.back() != read_only) return false;
  locks_.pop_back();
  protect();
  return true;
}

void Memory::protect() const {
  if (!is_strict()) return;
  const bool writable = std::ranges::find(locks_, false) != locks_.end();
  const int protection = locks_.empty() ? PROT_NONE : writable ? PROT_READ | PROT_WRITE : PROT_READ;
  ::mprotect(memory_, bytes(), protection);
}

// The device reaches memory whatever the client has locked.
void Memory::copy(bool to_simulator) {
  const std::lock_guard lock(mutex_);
  if (is_strict()) ::mprotect(memory_, bytes(), PROT_READ | PROT_WRITE);
  if (simulated_->lock(!to_simulator).ok()) {
    void* from = to_simulator ? memory_ : simulated_->base();
    void* to = to_simulator ? simulated_->base() : memory_;
    std::memcpy(to, from, bytes());
    static_cast<void>(simulated_->unlock());
  }
  protect();
}

void Memory::send() {
  copy(true);
}

void Memory::receive() {
  copy(false);
}

}  // namespace orion::framework
