#include "ane/engine_share.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace orion::ane {
namespace {

bool is_idle(const std::shared_ptr<Loaded>& loaded) {
  return loaded.use_count() == 1;
}

}  // namespace

std::shared_ptr<Loaded> ProgramCache::find(const std::string& identity) {
  const auto found = std::ranges::find(entries_, identity, &Entry::identity);
  if (found == entries_.end()) return nullptr;
  if (!found->loaded->usable()) {
    entries_.erase(found);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, found);
  return found->loaded;
}

void ProgramCache::keep(std::string identity, std::shared_ptr<Loaded> loaded) {
  entries_.push_front({std::move(identity), std::move(loaded)});
}

void ProgramCache::make_room(std::int64_t most) {
  for (auto entry = entries_.end();
       entry != entries_.begin() && static_cast<std::int64_t>(entries_.size()) >= most;) {
    --entry;
    if (is_idle(entry->loaded)) entry = entries_.erase(entry);
  }
}

bool ProgramCache::drop_idle() {
  return entries_.remove_if([](const Entry& entry) { return is_idle(entry.loaded); }) > 0;
}

void ProgramCache::release(std::shared_ptr<Loaded> replaced) {
  const auto found = std::ranges::find(entries_, replaced, &Entry::loaded);
  replaced.reset();
  if (found != entries_.end() && is_idle(found->loaded)) entries_.erase(found);
}

void EngineShare::restart() {
  const std::lock_guard lock(mutex);
  cache.drop_idle();
  usage = {};
}

std::shared_ptr<EngineShare> share_of(const EngineInfo& engine) {
  using Key = std::tuple<bool, std::string, std::string>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<EngineShare>> shares;
  const std::lock_guard lock(mutex);
  std::shared_ptr<EngineShare>& share = shares[{engine.on_disk, engine.chip, engine.os_build}];
  if (!share) share = std::make_shared<EngineShare>();
  return share;
}

}  // namespace orion::ane
