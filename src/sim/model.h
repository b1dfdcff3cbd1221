// A program on the simulated engine, from staging to evaluation.
#pragma once

#include "sim/bundle.h"
#include "sim/faults.h"
#include "sim/surface.h"

namespace orion::sim {

class SimModel : public ane::Model {
 public:
  SimModel(const ane::Profile& profile, std::shared_ptr<Process> process, std::unique_ptr<Bundle> bundle);
  ~SimModel() override;
  SimModel(const SimModel&) = delete;
  SimModel& operator=(const SimModel&) = delete;

  std::string identifier() override { return bundle_->identity(); }
  std::string directory() override { return bundle_->directory().string(); }
  bool compiled_exists() override;
  ane::Status compile() override;
  ane::Status load() override;
  ane::Status unload() override;
  ane::Status purge() override;
  ane::Status layout(ane::Layout& layout) override;
  ane::Status bind_procedure(const ane::Procedure& procedure, std::span<ane::Surface* const> inputs,
                             std::span<ane::Surface* const> outputs) override;
  ane::Status evaluate() override;

 private:
  using Built = std::shared_ptr<const Program>;

  ane::Status build(std::string_view call, Built& program) const;
  ane::Status check_files(std::string_view call) const;
  ane::Status program_to_load(Built& program) const;
  ane::Status check_surfaces(std::span<const Memory> surfaces, std::span<const ane::Symbol> symbols,
                             std::string_view uniform) const;
  ane::Status find_procedure(ane::Layout& layout, Built& program) const;
  ane::Status check_request(const ane::Layout& layout) const;
  void run_request(const Program& program);

  const ane::Profile profile_;
  const std::shared_ptr<Process> process_;
  const std::unique_ptr<Bundle> bundle_;
  std::mutex turn_;
  Built loaded_;
  Faults faults_;  // of what is loaded
  bool bound_ = false;
  ane::Procedure procedure_;  // that is bound
  std::vector<Memory> inputs_;
  std::vector<Memory> outputs_;
};

}  // namespace orion::sim
