#pragma once

#include "cpu/plan.h"
#include "cpu/work_memory.h"

namespace orion::cpu {

/// A plan with memory.
class CpuProgram final : public Program {
 public:
  CpuProgram(std::unique_ptr<Plan> plan, ThreadPool& pool, std::shared_ptr<WorkMemory> memory);
  ~CpuProgram() override;
  CpuProgram(const CpuProgram&) = delete;
  CpuProgram& operator=(const CpuProgram&) = delete;

  const std::vector<Port>& inputs() const override { return plan_->inputs; }
  const std::vector<Port>& outputs() const override { return plan_->outputs; }
  Tensor buffer(std::string_view port) const override;
  void bind(std::string_view port, Tensor memory) override;
  void run() override;
  std::shared_ptr<DeviceWeights> weights() const override { return plan_->weights; }
  std::string_view device() const override { return "cpu"; }
  std::string describe() const override;

 private:
  struct Bound {
    Port port;
    mutable Tensor own;  // made when first needed
    Tensor memory;       // what runs use; empty: `own`
  };

  Bound& bound(std::string_view port);
  const Bound& bound(std::string_view port) const;
  void resolve(std::byte* memory);
  void run_timed(const Run& context);

  std::unique_ptr<Plan> plan_;
  ThreadPool& pool_;
  std::vector<Bound> ports_;               // inputs, then outputs that are not states
  std::vector<std::size_t> output_ports_;  // index into ports_ of each output
  WorkMemory::Need need_;                  // scratch, then the arena
  std::vector<void*> addresses_;
  std::byte* resolved_ = nullptr;  // the memory for which the addresses hold; null: none
  std::vector<double> seconds_;    // of each step, all runs together; empty: not measured
  std::int64_t runs_ = 0;
};

}  // namespace orion::cpu
