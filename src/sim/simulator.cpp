#include "sim/simulator.h"

#include "ane/engine_share.h"
#include "base/shared_directory.h"
#include "orion/error.h"
#include "sim/model.h"

#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace orion::sim {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view own_prefix = "orion-simulator-";

void discard(const fs::path& directory) {
  std::error_code ignored;  // what cannot be removed stays in the temporary directory
  fs::remove_all(directory, ignored);
}

// What killed processes left.
void remove_abandoned(const fs::path& parent) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with(own_prefix)) found.push_back(entry->path());
  for (const fs::path& directory : found) static_cast<void>(if_abandoned(directory, discard));
}

std::string new_directory() {
  remove_abandoned(fs::temp_directory_path());
  std::string name = (fs::temp_directory_path() / str(own_prefix, "XXXXXX")).string();
  if (::mkdtemp(name.data()) == nullptr) fail(name, ": cannot make a directory: ", std::strerror(errno));
  return name;
}

// Of this process alone: what others do to their files is no concern of programs here. Gone when it ends.
class OwnDirectory {
 public:
  OwnDirectory() : owner_(::getpid()), directory_(new_directory()) {}
  ~OwnDirectory() {
    if (owner_ == ::getpid()) discard(path());
  }
  OwnDirectory(const OwnDirectory&) = delete;
  OwnDirectory& operator=(const OwnDirectory&) = delete;

  const fs::path& path() const { return directory_.path(); }

 private:
  ::pid_t owner_;  // a forked child must leave it alone
  SharedDirectory directory_;
};

fs::path own_directory(std::string_view profile) {
  static const OwnDirectory directory;
  return directory.path() / fs::path(profile).filename();
}

ane::EngineInfo info_of(std::string_view profile) {
  return {.framework = "simulator",
          .chip = std::string(profile),
          .os_build = "simulated",
          .on_disk = false,
          .found = {},
          .missing = {}};
}

class SimEngine : public ane::Engine {
 public:
  SimEngine(const ane::Profile& profile, Place staging)
      : profile_(profile), staging_(std::move(staging)), process_(Process::of(profile.name)) {}

  ane::EngineInfo info() override { return info_of(profile_.name); }

  ane::Status create_surface(std::size_t bytes, std::unique_ptr<ane::Surface>& surface) override {
    surface = std::make_unique<SimSurface>(bytes, process_);
    return {};
  }

  ane::Status create_model(std::string_view text, std::span<const ane::WeightFileData> files,
                           std::unique_ptr<ane::Model>& model) override {
    std::unique_ptr<Bundle> bundle;
    ane::Status status =
        Bundle::open(staging_, text, files, process_, profile_.has("one-weight-file"), bundle);
    if (status.ok()) model = std::make_unique<SimModel>(profile_, process_, std::move(bundle));
    return status;
  }

 private:
  ane::Profile profile_;
  Place staging_;
  std::shared_ptr<Process> process_;
};

}  // namespace

std::unique_ptr<ane::Engine> open_simulator(const ane::Profile& profile, const fs::path& staging) {
  const bool by_client = !staging.empty();
  return std::make_unique<SimEngine>(profile, Place{.root = by_client ? staging : own_directory(profile.name),
                                                    .staged_by_client = by_client});
}

Counters counters(std::string_view profile) {
  return Process::of(profile)->counters();
}

void freeze_weights(std::string_view profile, bool frozen) {
  Process::of(profile)->freeze(frozen);
}

void restart(std::string_view profile) {
  ane::share_of(info_of(profile))->restart();
  Process::of(profile)->restart();
}

}  // namespace orion::sim
