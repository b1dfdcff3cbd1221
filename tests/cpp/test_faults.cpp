// Every call of the framework goes wrong in every way, at every place of a program's life on the `ane`
// device.
#ifdef ORION_SIMULATED_FRAMEWORK
#include "framework_library.h"
#include "orion/error.h"
#include "update_sample.h"

using namespace orion;
using namespace orion::test;
using ane::Update;

namespace fs = std::filesystem;

namespace {

constexpr const char* hardware = "paper-m4-macos15";  // where every strategy works
constexpr int layers = 2;

struct Call {
  std::string name;
  std::string ours;  // what our errors call it
  bool bounded;      // in time: a lock is no call to a daemon
  bool may_go_on;    // without it, or by trying again, at some places of a life
};

const Call calls[] = {
    {"surface", "surface", true, false},  {"wrap", "surface", true, false},
    {"descriptor", "model", true, false}, {"model", "model", true, false},
    {"identifier", "model", true, false}, {"exists", "compiled-exists", true, true},
    {"compile", "compile", true, false},  {"load", "load", true, true},
    {"attributes", "layout", true, true}, {"request", "bind", true, false},
    {"lock", "lock", false, false},       {"unlock", "unlock", false, true},
    {"evaluate", "evaluate", true, true}, {"unload", "unload", true, true},
    {"purge", "purge", true, true},
};

struct Fault {
  const Call* call = nullptr;
  std::string kind;
  int nth = 0;
};

// One program and its equal, from the framework's opening to its end. Whatever fails is tried again at once
// and must then succeed: there is one fault.
class Life {
 public:
  explicit Life(Update update) : update_(update) {}

  std::vector<std::string> live() {
    attempt([&] { open(); });
    attempt([&] { make(first_); });
    first_.program.reset();
    ane::share_of(device_->runtime().info())->cache.drop_idle();
    attempt([&] { make(first_); });  // known by now
    attempt([&] { make(equal_); });
    check_output(first_);
    for (const Call& call : calls) made_before_[call.name] = framework_library().calls(call.name.c_str());
    for (const int version : {1, 2}) update(version);
    check_output(equal_);
    for (Used* used : {&first_, &equal_}) used->program.reset();
    device_.reset();
    return errors_;
  }

  /// Calls up to the first update.
  const std::map<std::string, long>& made_before() const { return made_before_; }

 private:
  struct Used {
    TensorMap values;  // that it must have
    std::unique_ptr<Program> program;
  };

  void open() {
    device_ = std::make_unique<ane::AneDevice>("ane", open_over_simulator(hardware),
                                               ane::find_profile(hardware), update_);
  }

  void make(Used& used) {
    if (used.values.empty()) used.values = sample_weights(layers, 0);
    used.program = device_->compile(sample_chain(layers), device_->load(used.values));
  }

  template <class Step>
  void attempt(const Step& step) {
    try {
      step();
    } catch (const Error& error) {
      errors_.emplace_back(error.what());
      step();
    }
  }

  void check_output(Used& used) {
    Tensor y;
    attempt([&] { y = sample_output(*used.program); });
    CHECK(y.identical(expected(used.values)));
  }

  // A failed update leaves the old values.
  void update(int version) {
    const TensorMap changes = {{sample_weight_name(0), sample_weight(0, version)}};
    const std::size_t before = errors_.size();
    attempt([&] {
      if (errors_.size() > before) {
        check_weight();
        check_output(first_);
      }
      first_.program->weights()->update(changes);
    });
    first_.values[sample_weight_name(0)] = changes.begin()->second;
    check_weight();
    check_output(first_);
  }

  void check_weight() const {
    const std::string name = sample_weight_name(0);
    CHECK(first_.program->weights()->read(name).identical(first_.values.at(name)));
  }

  // By version of the first weight, which alone is changed.
  static const Tensor& expected(const TensorMap& values) {
    static std::vector<std::pair<Tensor, Tensor>> known;
    const Tensor& weight = values.at(sample_weight_name(0));
    for (const auto& [of, output] : known)
      if (of.identical(weight)) return output;
    return known.emplace_back(weight, fresh_output(layers, values, ane::find_profile(hardware))).second;
  }

  Update update_;
  std::unique_ptr<ane::AneDevice> device_;
  Used first_, equal_;
  std::vector<std::string> errors_;
  std::map<std::string, long> made_before_;
};

fs::path staging_place() {
  const auto engine = open_over_simulator(hardware);
  std::unique_ptr<ane::Model> model;
  require_ok(make_model(*engine, sample_image(2), model));
  return fs::path(model->directory()).parent_path();
}

std::ptrdiff_t entries(const fs::path& directory) {
  return std::distance(fs::directory_iterator(directory), {});
}

struct Sweep {
  TemporaryDirectory cache;
  Environment place{"ORION_CACHE_DIR", cache.path()};
  Environment simulated{"ORION_SIM_PROFILE", hardware};
  fs::path staging = staging_place();

  std::vector<std::string> live(Update update) const {
    restart_framework(hardware);
    return Life(update).live();
  }

  void check_clean(std::size_t files, std::ptrdiff_t staged) const {
    framework_library().forget_faults();
    release_hanging();
    check_nothing_left(hardware);
    CHECK(open_files() == files);
    CHECK(entries(staging) == staged);
  }

  // Whether an error was reported; if not, the life went on as it should.
  bool sweep(Update update, const Fault& fault, std::size_t files, std::ptrdiff_t staged) const {
    INFO(str(ane::update_name(update), ": ", fault.call->name, ' ', fault.kind, ' ', fault.nth));
    REQUIRE(framework_library().plan_fault(fault.call->name.c_str(), fault.kind.c_str(), fault.nth));
    const Environment limit("ORION_ANE_TIMEOUT", fault.kind == "hang" ? "0.3" : "60");
    const std::vector<std::string> errors = live(update);
    for (const std::string& error : errors) {
      CAPTURE(error);
      const bool names_it = error.find(fault.call->ours) != std::string::npos;
      CHECK(names_it);
    }
    CHECK(errors.size() <= 1);
    if (errors.empty()) CHECK(fault.call->may_go_on);
    check_clean(files, staged);
    // The next life is right everywhere but at its fault; one without a fault now and then.
    if (fault.kind == "hang" || fault.nth == 1) CHECK(live(update).empty());
    return !errors.empty();
  }

  // The ways of updating are alike up to the first update: `whole` says whether that part is swept too.
  void sweep(Update update, bool whole) const {
    CHECK(live(update).empty());  // tests the strategies, opens what stays open
    framework_library().forget_faults();
    restart_framework(hardware);
    Life life(update);
    CHECK(life.live().empty());
    std::map<std::string, long> made;
    for (const Call& call : calls) made[call.name] = framework_library().calls(call.name.c_str());
    const std::size_t files = open_files();
    const std::ptrdiff_t staged = entries(staging);
    for (const Call& call : calls) {
      int reported = 0;
      framework_library().forget_faults();
      const int first = whole ? 1 : static_cast<int>(life.made_before().at(call.name)) + 1;
      for (const std::string kind : {"fail", "nil", "raise", "hang"})
        for (int nth = first; nth <= made[call.name] && (kind != "hang" || call.bounded); ++nth)
          reported += sweep(update, {&call, kind, nth}, files, staged) ? 1 : 0;
      CHECK((reported > 0 || call.may_go_on || first > made[call.name]));
    }
  }
};

}  // namespace

TEST_CASE(
    "faults: every call of the ane device may fail, return nothing, raise or hang, wherever it is made" *
    doctest::skip()) {
  REQUIRE_MESSAGE(std::getenv("TEMP") != nullptr, "TEMP must name a directory that nobody else uses");
  const Sweep sweep;
  for (const Update update : ane::tested_updates) sweep.sweep(update, update == Update::delta);
}

// An accident during the self-test is an error, or it is tried again: it never becomes a verdict.
TEST_CASE("faults: the self-test's verdicts do not depend on a call that fails once" * doctest::skip()) {
  const Sweep sweep;
  const auto eligible = [&] {
    restart_framework(hardware);
    ane::Runtime runtime(open_over_simulator(hardware), ane::find_profile(hardware));
    std::vector<bool> verdicts;
    for (const ane::Verdict& verdict : ane::test_updates(runtime)) verdicts.push_back(verdict.eligible);
    return verdicts;
  };
  framework_library().forget_faults();
  const std::vector<bool> expected = eligible();
  CHECK(expected == std::vector<bool>(ane::tested_updates.size(), true));
  std::map<std::string, long> made;
  for (const Call& call : calls) made[call.name] = framework_library().calls(call.name.c_str());
  for (const Call& call : calls) {
    framework_library().forget_faults();
    for (int nth = 1; nth <= made[call.name]; ++nth) {
      INFO(str(call.name, " fail ", nth));
      REQUIRE(framework_library().plan_fault(call.name.c_str(), "fail", nth));
      try {
        const std::vector<bool> found = eligible();
        CHECK(found == expected);
      } catch (const DeviceError& error) {
        CHECK(std::string(error.what()).find(call.ours) != std::string::npos);
      }
      check_nothing_left(hardware);
      framework_library().forget_faults();
    }
  }
  CHECK(eligible() == expected);
}
#endif
