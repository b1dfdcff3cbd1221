// Verdicts on update strategies, remembered per chip and system.
#include "ane/weight_update.h"
#include "base/cache_directory.h"
#include "base/file.h"
#include "orion/error.h"

#include <algorithm>
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

std::string on_one_line(std::string text) {
  std::ranges::replace_if(text, [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return text;
}

// One line per strategy: name, eligible, nanoseconds, reason, parted by tabs.
std::string text_of(const EngineInfo& info, const std::vector<Verdict>& verdicts) {
  std::ostringstream out;
  out << title(info) << '\n';
  for (const Verdict& v : verdicts)
    out << update_name(v.update) << '\t' << v.eligible << '\t' << static_cast<std::int64_t>(v.seconds * 1e9)
        << '\t' << on_one_line(v.reason) << '\n';
  return out.str();
}

// None if the line is not the strategy's.
std::optional<Verdict> verdict_of(const std::string& line, Update update) {
  std::istringstream fields(line);
  std::string name, eligible, nanoseconds, reason;
  if (!std::getline(fields, name, '\t') || !std::getline(fields, eligible, '\t') ||
      !std::getline(fields, nanoseconds, '\t'))
    return {};
  std::getline(fields, reason);
  std::int64_t time = 0;
  const char* last = nanoseconds.data() + nanoseconds.size();
  const auto [end, error] = std::from_chars(nanoseconds.data(), last, time);
  if (error != std::errc() || end != last || time < 0 || name != update_name(update) ||
      (eligible != "0" && eligible != "1"))
    return {};
  return Verdict{update, eligible == "1", static_cast<double>(time) * 1e-9, reason};
}

// Nothing if there is no file, or it is not one of ours: the test is then run again.
std::vector<Verdict> remembered(const EngineInfo& info) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(file_of(info), none)) return {};
  std::istringstream lines(read_file(file_of(info)));
  std::string line;
  std::vector<Verdict> verdicts;
  if (!std::getline(lines, line) || line != title(info)) return {};
  for (const Update update : tested_updates) {
    std::getline(lines, line);
    const std::optional<Verdict> verdict = lines ? verdict_of(line, update) : std::nullopt;
    if (!verdict) return {};
    verdicts.push_back(*verdict);
  }
  return std::getline(lines, line) ? std::vector<Verdict>{} : verdicts;
}

void remember(const EngineInfo& info, const std::vector<Verdict>& verdicts) {
  try {
    std::filesystem::create_directories(cache_directory());
    replace_file(file_of(info), text_of(info, verdicts));
  } catch (const std::exception& error) {
    throw Error(
        str("update: what the self-test found is not kept for other processes (ORION_CACHE_DIR can "
            "name another place): ",
            error.what()));
  }
}

}  // namespace

// A file that cannot be written is an error once: this process goes on with what it found.
const std::vector<Verdict>& update_verdicts(Runtime& runtime) {
  static std::mutex mutex;
  static std::map<std::string, std::vector<Verdict>> known;  // references stay valid
  const std::lock_guard lock(mutex);
  const EngineInfo& info = runtime.info();
  if (const auto found = known.find(title(info)); found != known.end()) return found->second;
  std::vector<Verdict> verdicts = info.on_disk ? remembered(info) : std::vector<Verdict>{};
  const bool is_new = verdicts.empty();
  if (is_new) verdicts = test_updates(runtime);
  const auto& entry = *known.emplace(title(info), std::move(verdicts)).first;
  if (is_new && info.on_disk) remember(info, entry.second);
  return entry.second;
}

}  // namespace orion::ane
