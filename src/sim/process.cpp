#include "sim/process.h"

namespace orion::sim {
namespace {

// Of T_W_O.
std::string text_part(const std::string& identity) {
  return identity.substr(0, identity.find('_'));
}

}  // namespace

std::shared_ptr<Process> Process::of(std::string_view profile) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<Process>, std::less<>> processes;
  const std::lock_guard lock(mutex);
  const auto found = processes.find(profile);
  if (found != processes.end()) return found->second;
  return processes.emplace(profile, std::make_shared<Process>()).first->second;
}

Counters Process::counters() const {
  const std::lock_guard lock(mutex_);
  Counters counters = counters_;
  counters.compiled = static_cast<std::int64_t>(compiled_.size());
  for (const auto& [directory, users] : directories_) {
    std::error_code missing;
    if (std::filesystem::exists(directory, missing)) ++counters.directories;
  }
  return counters;
}

void Process::count(std::int64_t Counters::* counter, std::int64_t change) {
  const std::lock_guard lock(mutex_);
  counters_.*counter += change;
}

void Process::restart() {
  const std::lock_guard lock(mutex_);
  budget_spent_ = 0;
  poisoned_ = false;
  compiled_.clear();
  frozen_.clear();
}

bool Process::spend_compile(std::int64_t budget) {
  const std::lock_guard lock(mutex_);
  ++counters_.compiles;
  return ++budget_spent_ <= budget;
}

bool Process::take_slot(std::int64_t most) {
  const std::lock_guard lock(mutex_);
  if (counters_.loaded >= most) return false;
  ++counters_.loaded;
  return true;
}

void Process::give_slot_back() {
  const std::lock_guard lock(mutex_);
  --counters_.loaded;
}

std::shared_ptr<const Program> Process::find(const std::string& identity) const {
  const std::lock_guard lock(mutex_);
  const auto found = compiled_.find(identity);
  return found == compiled_.end() ? nullptr : found->second;
}

void Process::keep(const std::string& identity, std::shared_ptr<const Program> program) {
  const std::lock_guard lock(mutex_);
  compiled_[identity] = std::move(program);
}

void Process::purge(const std::string& identity) {
  const std::lock_guard lock(mutex_);
  compiled_.erase(identity);
}

void Process::freeze(bool frozen) {
  const std::lock_guard lock(mutex_);
  frozen_.clear();
  if (!frozen) return;
  for (const auto& [identity, program] : compiled_) frozen_.emplace(text_part(identity), program);
}

std::shared_ptr<const Program> Process::frozen(const std::string& identity) const {
  const std::lock_guard lock(mutex_);
  const auto found = frozen_.find(text_part(identity));
  return found == frozen_.end() ? nullptr : found->second;
}

bool Process::is_poisoned() const {
  const std::lock_guard lock(mutex_);
  return poisoned_;
}

void Process::poison() {
  const std::lock_guard lock(mutex_);
  poisoned_ = true;
}

void Process::add_directory(const std::filesystem::path& directory) {
  const std::lock_guard lock(mutex_);
  ++directories_[directory];
}

void Process::remove_directory(const std::filesystem::path& directory) {
  const std::lock_guard lock(mutex_);
  const auto found = directories_.find(directory);
  if (--found->second == 0) directories_.erase(found);
}

}  // namespace orion::sim
