#include "framework/faults.h"

#include "framework/controls.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <string_view>
#include <vector>

namespace orion::framework {
namespace {

constexpr std::array<std::string_view, 15> calls = {
    "descriptor", "model",      "identifier", "exists", "purge",   "compile", "load",  "unload",
    "evaluate",   "attributes", "request",    "wrap",   "surface", "lock",    "unlock"};
constexpr std::array<std::string_view, 4> kinds = {"fail", "nil", "raise", "hang"};

struct Planned {
  std::string call;
  std::string kind;
  int calls_left = 1;
};

class Plan {
 public:
  Plan() {
    const char* text = std::getenv("ORION_SIM_FAULTS");
    std::istringstream faults(text == nullptr ? "" : text);
    for (std::string fault; std::getline(faults, fault, ',');) add_text(fault);
  }

  bool add(const std::string& call, const std::string& kind, int nth) {
    if (std::ranges::find(calls, call) == calls.end() || std::ranges::find(kinds, kind) == kinds.end())
      return false;
    const std::lock_guard lock(mutex_);
    planned_.push_back({call, kind, nth});
    return nth > 0;
  }

  void forget() {
    const std::lock_guard lock(mutex_);
    planned_.clear();
    made_.clear();
  }

  long made(const std::string& call) {
    const std::lock_guard lock(mutex_);
    return made_[call];
  }

  // The kind that is due, empty if none.
  std::string count(const std::string& call) {
    const std::lock_guard lock(mutex_);
    ++made_[call];
    for (Planned& planned : planned_) planned.calls_left -= planned.call == call ? 1 : 0;
    const auto due = std::ranges::find(planned_, 0, &Planned::calls_left);
    if (due == planned_.end()) return "";
    const std::string kind = due->kind;
    planned_.erase(due);
    return kind;
  }

  void hang() {
    std::unique_lock lock(mutex_);
    ++hanging_;
    const long release = releases_;
    released_.wait(lock, [&] { return releases_ != release; });
    --hanging_;
  }
  long hanging() {
    const std::lock_guard lock(mutex_);
    return hanging_;
  }
  void release() {
    const std::lock_guard lock(mutex_);
    ++releases_;
    released_.notify_all();
  }

 private:
  void add_text(const std::string& text) {
    std::istringstream words(text);
    std::string call, kind, nth;
    std::getline(words, call, ':');
    std::getline(words, kind, ':');
    std::getline(words, nth);
    if (add(call, kind, std::atoi(nth.c_str()))) return;
    std::fprintf(stderr, "ORION_SIM_FAULTS: '%s' is not call:kind:number\n", text.c_str());
    std::abort();
  }

  std::mutex mutex_;
  std::condition_variable released_;
  std::vector<Planned> planned_;
  std::map<std::string, long> made_;
  long hanging_ = 0;
  long releases_ = 0;
};

Plan& plan() {
  static Plan& instance = *new Plan;  // calls may hang beyond the end of main
  return instance;
}

}  // namespace

Fault next_fault(const std::string& call) {
  const std::string kind = plan().count(call);
  if (kind == "hang") plan().hang();
  if (kind == "fail") return Fault::fail;
  if (kind == "nil") return Fault::nothing;
  return kind == "raise" ? Fault::raise : Fault::none;
}

}  // namespace orion::framework

using orion::framework::plan;

bool orion_sim_plan_fault(const char* call, const char* kind, int nth) {
  return plan().add(call, kind, nth);
}

void orion_sim_forget_faults() {
  plan().forget();
}

long orion_sim_calls(const char* call) {
  return plan().made(call);
}

long orion_sim_hanging() {
  return plan().hanging();
}

void orion_sim_release_hanging() {
  plan().release();
}
