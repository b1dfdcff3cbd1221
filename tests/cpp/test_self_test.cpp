// The update self-test on engines that take less than the simulator's.
#include "ane/weight_update.h"
#include "engine_sample.h"

#include <set>

using namespace orion;
using namespace orion::test;
using ane::Status;
using ane::Update;

namespace {

struct Refusals {
  bool load_of_unknown;  // loading compiles nothing: the daemon must know the program by a compile
  bool purge;            // what was compiled stays known
};

/// A model whose calls go to the simulator's, but for those that are refused.
class LesserModel final : public ane::Model {
 public:
  LesserModel(std::unique_ptr<ane::Model> model, Refusals refusals, std::set<std::string>& compiled)
      : model_(std::move(model)), refusals_(refusals), compiled_(compiled) {}

  std::string identifier() override { return model_->identifier(); }
  std::string directory() override { return model_->directory(); }
  bool compiled_exists() override { return compiled_.contains(identifier()); }
  Status compile() override {
    Status status = model_->compile();
    if (status.ok()) compiled_.insert(identifier());
    return status;
  }
  Status load() override {
    if (refusals_.load_of_unknown && !compiled_exists())
      return {Status::Kind::refused, "load", "test", 1, "never compiled"};
    return model_->load();
  }
  Status unload() override { return model_->unload(); }
  Status purge() override {
    if (refusals_.purge) return {Status::Kind::unavailable, "purge", "", 0, "no such method"};
    compiled_.erase(identifier());
    return model_->purge();
  }
  Status layout(ane::Layout& layout) override { return model_->layout(layout); }
  Status bind_procedure(const ane::Procedure& procedure, std::span<ane::Surface* const> inputs,
                        std::span<ane::Surface* const> outputs) override {
    return model_->bind_procedure(procedure, inputs, outputs);
  }
  Status evaluate() override { return model_->evaluate(); }

 private:
  std::unique_ptr<ane::Model> model_;
  Refusals refusals_;
  std::set<std::string>& compiled_;
};

class LesserEngine final : public ane::Engine {
 public:
  LesserEngine(const ane::Profile& profile, Refusals refusals)
      : engine_(sim::open_simulator(profile)), refusals_(refusals) {}

  ane::EngineInfo info() override { return engine_->info(); }
  Status create_surface(std::size_t bytes, std::unique_ptr<ane::Surface>& surface) override {
    return engine_->create_surface(bytes, surface);
  }
  Status create_model(std::string_view text, std::span<const ane::WeightFileData> files,
                      std::unique_ptr<ane::Model>& model) override {
    Status status = engine_->create_model(text, files, model);
    if (status.ok()) model = std::make_unique<LesserModel>(std::move(model), refusals_, compiled_);
    return status;
  }

 private:
  std::unique_ptr<ane::Engine> engine_;
  Refusals refusals_;
  std::set<std::string> compiled_;
};

bool is_eligible(Refusals refusals, Update update) {
  ane::Profile profile = ane::find_profile("macos26");
  profile.name = "self-test";
  sim::restart(profile.name);
  ane::Runtime runtime(std::make_unique<LesserEngine>(profile, refusals), profile);
  const std::vector<ane::Verdict> verdicts = ane::test_updates(runtime);
  const auto verdict = std::ranges::find(verdicts, update, &ane::Verdict::update);
  CHECK(verdict->eligible == verdict->reason.empty());
  return verdict->eligible;
}

}  // namespace

TEST_CASE("self-test: a new identity works only where loading makes a program of weights never seen") {
  for (const bool purge : {false, true}) {
    CAPTURE(purge);
    CHECK(is_eligible({.load_of_unknown = false, .purge = purge}, Update::new_identity));
    CHECK_FALSE(is_eligible({.load_of_unknown = true, .purge = purge}, Update::new_identity));
    CHECK(is_eligible({.load_of_unknown = true, .purge = purge}, Update::recompile));
  }
}

TEST_CASE("self-test: verdicts do not depend on what earlier tests of the engine left known") {
  ane::Profile profile = ane::find_profile("macos26");
  profile.name = "self-test-again";
  ane::Runtime runtime(
      std::make_unique<LesserEngine>(profile, Refusals{.load_of_unknown = true, .purge = true}), profile);
  for (int run = 0; run < 2; ++run) {
    const std::vector<ane::Verdict> verdicts = ane::test_updates(runtime);
    CHECK_FALSE(std::ranges::find(verdicts, Update::new_identity, &ane::Verdict::update)->eligible);
  }
}
