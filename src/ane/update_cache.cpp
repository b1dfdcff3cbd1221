// Verdicts on update strategies, remembered per chip and system.
#include "ane/weight_update.h"
#include "base/cache_directory.h"
#include "base/file.h"
#include "orion/error.h"

#include <charconv>
#include <mutex>
#include <sstream>

namespace orion::ane {
namespace {

std::string title(const EngineInfo& info) {
  return str("orion update verdicts 1 ", info.framework, ' ', info.chip, ' ', info.os_build);
}

std::filesystem::path file_of(const EngineInfo& info) {
  std::string name = str("updates-", info.chip, '-', info.os_build, ".txt");
  for (char& c : name)
    if (c == '/' || c == ' ') c = '_';
  return cache_directory() / name;
}

// One line per strategy: name, eligible, nanoseconds, reason, parted by tabs.
std::string text_of(const EngineInfo& info, const std::vector<Verdict>& verdicts) {
  std::ostringstream out;
  out << title(info) << '\n';
  for (const Verdict& v : verdicts)
    out << update_name(v.update) << '\t' << v.eligible << '\t' << static_cast<std::int64_t>(v.seconds * 1e9)
        << '\t' << v.reason << '\n';
  return out.str();
}

std::optional<Verdict> verdict_of(const std::string& line) {
  std::istringstream fields(line);
  std::string name, eligible, nanoseconds, reason;
  if (!std::getline(fields, name, '\t') || !std::getline(fields, eligible, '\t') ||
      !std::getline(fields, nanoseconds, '\t'))
    return {};
  std::getline(fields, reason);
  std::int64_t time = 0;
  const auto [end, error] =
      std::from_chars(nanoseconds.data(), nanoseconds.data() + nanoseconds.size(), time);
  if (error != std::errc() || end != nanoseconds.data() + nanoseconds.size() ||
      (eligible != "0" && eligible != "1"))
    return {};
  return Verdict{update_from_name(name), eligible == "1", static_cast<double>(time) * 1e-9, reason};
}

// Nothing if there is no file, or it is not one of ours: the test is then run again.
std::vector<Verdict> remembered(const EngineInfo& info) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(file_of(info), none)) return {};
  std::istringstream lines(read_file(file_of(info)));
  std::string line;
  std::vector<Verdict> verdicts;
  if (!std::getline(lines, line) || line != title(info)) return {};
  while (std::getline(lines, line)) {
    const std::optional<Verdict> verdict = verdict_of(line);
    if (!verdict) return {};
    verdicts.push_back(*verdict);
  }
  return verdicts;
}

void remember(const EngineInfo& info, const std::vector<Verdict>& verdicts) {
  std::filesystem::create_directories(cache_directory());
  replace_file(file_of(info), text_of(info, verdicts));
}

}  // namespace

const std::vector<Verdict>& update_verdicts(Runtime& runtime) {
  static std::mutex mutex;
  static std::map<std::string, std::vector<Verdict>> known;  // references stay valid
  const std::lock_guard lock(mutex);
  const EngineInfo& info = runtime.info();
  const auto [entry, is_new] = known.try_emplace(title(info));
  if (!is_new) return entry->second;
  try {
    if (info.on_disk) entry->second = remembered(info);
    if (!entry->second.empty()) return entry->second;
    entry->second = test_updates(runtime);
    if (info.on_disk) remember(info, entry->second);
    return entry->second;
  } catch (...) {
    known.erase(entry);
    throw;
  }
}

}  // namespace orion::ane
