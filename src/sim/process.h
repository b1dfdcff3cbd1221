// What the hardware and its daemon remember of this process, for one profile.
#pragma once

#include "orion/ane.h"
#include "sim/code.h"
#include "sim/simulator.h"

#include <mutex>

namespace orion::sim {

class Process {
 public:
  /// The one of the profile, made at first use.
  static std::shared_ptr<Process> of(std::string_view profile);

  Counters counters() const;
  void count(std::int64_t Counters::* counter, std::int64_t change);
  void restart();

  /// Counts an attempt to compile; false if the budget is spent.
  bool spend_compile(std::int64_t budget);
  /// Counts a program as loaded; false if there are `most` already.
  bool take_slot(std::int64_t most);
  void give_slot_back();

  /// Compiled programs by identity.
  std::shared_ptr<const Program> find(const std::string& identity) const;
  void keep(const std::string& identity, std::shared_ptr<const Program> program);
  void purge(const std::string& identity);

  /// From now on a text that is known has the weights it has now; or no longer.
  void freeze(bool frozen);
  /// What a frozen engine has for the text of this identity; null if there is nothing, or it is not frozen.
  std::shared_ptr<const Program> frozen(const std::string& identity) const;

  /// After a poisoned evaluation every other one fails until the process starts anew.
  bool is_poisoned() const;
  void poison();

  /// Staging directories in use; each is counted as long as it exists.
  void add_directory(const std::filesystem::path& directory);
  void remove_directory(const std::filesystem::path& directory);

 private:
  mutable std::mutex mutex_;
  Counters counters_;
  std::int64_t budget_spent_ = 0;
  bool poisoned_ = false;
  std::map<std::string, std::shared_ptr<const Program>> compiled_;
  std::map<std::string, std::shared_ptr<const Program>> frozen_;  // by the identity's part for the text
  std::map<std::filesystem::path, int> directories_;
};

}  // namespace orion::sim
