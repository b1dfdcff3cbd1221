#include "cpu/work_memory.h"

#include "base/memory.h"

#include <algorithm>

namespace orion::cpu {

WorkMemory::Need::Need(std::shared_ptr<WorkMemory> memory, std::size_t bytes)
    : memory_(std::move(memory)), bytes_(aligned_bytes(std::max<std::size_t>(bytes, 1))) {
  const std::lock_guard lock(memory_->mutex_);
  const auto place = memory_->needs_.insert(bytes_);
  memory_->drop_unfit();
  if (!memory_->idle_.empty() || memory_->lent_ > 0) return;
  try {
    memory_->idle_.push_back(memory_block(memory_->most()));
  } catch (...) {
    memory_->needs_.erase(place);
    throw;
  }
}

WorkMemory::Need::~Need() {
  const std::lock_guard lock(memory_->mutex_);
  memory_->needs_.erase(memory_->needs_.find(bytes_));
  memory_->drop_unfit();
}

std::size_t WorkMemory::bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t total = lent_bytes_;
  for (const Tensor& block : idle_) total += block.bytes();
  return total;
}

Tensor WorkMemory::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) idle_.push_back(memory_block(most()));
  Tensor block = std::move(idle_.back());
  idle_.pop_back();
  ++lent_;
  lent_bytes_ += block.bytes();
  return block;
}

void WorkMemory::give_back(Tensor block) {
  const std::lock_guard lock(mutex_);
  --lent_;
  lent_bytes_ -= block.bytes();
  idle_.push_back(std::move(block));
  drop_unfit();
}

void WorkMemory::drop_unfit() {
  std::erase_if(idle_, [&](const Tensor& block) { return block.bytes() != most(); });
}

}  // namespace orion::cpu
