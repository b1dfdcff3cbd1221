// Memory that programs need only while they run.
#pragma once

#include "orion/tensor.h"

#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace orion::cpu {

/// Programs that run one after the other use the same memory: all together hold what the one that needs most
/// does, times as many as have run at once. What is in it when a run begins is left from another one.
class WorkMemory {
 public:
  /// What a program may ask for, as long as this lives. Memory for it is there from now on.
  class Need {
   public:
    Need(std::shared_ptr<WorkMemory> memory, std::size_t bytes);
    ~Need();
    Need(const Need&) = delete;
    Need& operator=(const Need&) = delete;

   private:
    friend class WorkMemory;
    std::shared_ptr<WorkMemory> memory_;
    std::size_t bytes_;
  };

  /// Memory for one run; 64-byte aligned.
  class Loan {
   public:
    explicit Loan(const Need& need) : memory_(*need.memory_), block_(memory_.take()) {}
    ~Loan() { memory_.give_back(std::move(block_)); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

    std::byte* data() const { return block_.data(); }

   private:
    WorkMemory& memory_;
    Tensor block_;
  };

  /// Bytes held now.
  std::size_t bytes() const;

 private:
  Tensor take();
  void give_back(Tensor block);
  std::size_t most() const { return needs_.empty() ? 0 : *needs_.rbegin(); }
  void drop_unfit();

  mutable std::mutex mutex_;
  std::multiset<std::size_t> needs_;
  std::vector<Tensor> idle_;  // each as large as the largest need
  std::size_t lent_ = 0;      // blocks
  std::size_t lent_bytes_ = 0;
};

}  // namespace orion::cpu
