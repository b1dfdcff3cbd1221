// Processes that are killed while they change weights, and disks that are full then.
#ifdef ORION_SIMULATED_FRAMEWORK
#include "base/file.h"
#include "disk_full.h"
#include "framework_library.h"
#include "orion/error.h"
#include "orion/weight_file.h"
#include "update_sample.h"

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <random>

using namespace orion;
using namespace orion::test;
using ane::Update;

namespace fs = std::filesystem;

namespace {

constexpr const char* hardware = "paper-m4-macos15";  // reads patched files again
constexpr int layers = 6;

const ane::Profile& profile() {
  return ane::find_profile(hardware);
}

// All elements alike and exact in fp16, so that a file shows of which version each chunk is.
Tensor flat_weight(int version) {
  const Tensor value(sample_weight_type);
  std::ranges::fill(value.as<std::uint16_t>(),
                    float_to_half(static_cast<float>(1024 + version % 1024) / 65536.0F));
  return value;
}

TensorMap flat_weights(int version) {
  TensorMap weights;
  for (int i = 0; i < layers; ++i) weights[sample_weight_name(i)] = flat_weight(version);
  return weights;
}

struct Updated {
  explicit Updated(Update update)
      : device("ane", open_over_simulator(hardware), profile(), update),
        program(device.compile(sample_chain(layers), device.load(flat_weights(0)))) {}

  void update(int version) const { program->weights()->update(flat_weights(version)); }
  bool has(int version) const {
    return sample_output(*program).identical(fresh_output(layers, flat_weights(version), profile()));
  }

  ane::AneDevice device;
  std::unique_ptr<Program> program;
};

// ---- What the killed processes do: see the parent below.

pid_t start(const std::string& test, const fs::path& place) {
  const std::string filter = "--test-case=" + test;
  const std::string cache = "ORION_CACHE_DIR=" + place.string(), temporary = "TEMP=" + place.string(),
                    own = "TMPDIR=" + place.string(), simulated = str("ORION_SIM_PROFILE=", hardware);
  const char* const arguments[] = {"orion_tests", "--no-skip", filter.c_str(), nullptr};
  const char* const environment[] = {
      cache.c_str(), temporary.c_str(), own.c_str(), simulated.c_str(), "ASAN_OPTIONS=detect_leaks=0",
      nullptr};
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child > 0) return child;
  ::close(STDOUT_FILENO);
  ::execve("/proc/self/exe", const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
  ::_exit(127);
}

int ended(pid_t child) {
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

bool has_ended(pid_t child) {
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0);
  return info.si_pid == child;
}

void wait_for(const fs::path& file, pid_t child) {
  while (!fs::exists(file)) {
    REQUIRE_MESSAGE(!has_ended(child), "a process after a killed one failed");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Every staged weight file is whole, and all its chunks are of one version.
int check_staged(const fs::path& place) {
  int count = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(place)) {
    if (entry.path().filename() != "weight.bin") continue;
    const weights::WeightFile file(entry.path());
    REQUIRE(file.chunks().size() == layers);
    const std::span<const std::byte> first = file.chunks().front().data;
    for (const weights::Chunk& chunk : file.chunks()) {
      CHECK(std::ranges::equal(chunk.data, first));
      CHECK(std::ranges::equal(chunk.data.subspan(2), chunk.data.first(chunk.data.size() - 2)));
    }
    ++count;
  }
  return count;
}

std::vector<std::string> staged_entries(const fs::path& place) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(place)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("GNUstepSecure") && !name.starts_with("updates-") && name != "ready")
      names.push_back(name);
  }
  return names;
}

}  // namespace

TEST_CASE("killed: a process that updates until it is killed" * doctest::skip()) {
  const Updated updated(Update::delta);
  REQUIRE(updated.has(0));
  for (int version = 1;; ++version) {
    updated.update(version);
    if (version == 2) {
      REQUIRE(updated.has(version));
      replace_file(fs::path(std::getenv("ORION_CACHE_DIR")) / "ready", "");
    }
  }
}

TEST_CASE("killed: a process that updates once" * doctest::skip()) {
  const Updated updated(Update::delta);
  REQUIRE(updated.has(0));
  for (const int version : {1, 2}) {
    updated.update(version);
    REQUIRE(updated.has(version));
  }
}

TEST_CASE("killed: whoever comes after a killed process computes right values, and clears up") {
  const TemporaryDirectory place;
  std::mt19937 random(1);
  int staged = 0;
  for (int kill = 0; kill < 50; ++kill) {
    CAPTURE(kill);
    fs::remove(place.path() / "ready");
    const pid_t child = start("killed: a process that updates until it is killed", place.path());
    wait_for(place.path() / "ready", child);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    REQUIRE(::kill(child, SIGKILL) == 0);
    const int status = ended(child);
    REQUIRE(WIFSIGNALED(status));
    REQUIRE(WTERMSIG(status) == SIGKILL);
    staged += check_staged(place.path());
  }
  CHECK(staged > 0);
  const int status = ended(start("killed: a process that updates once", place.path()));
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(staged_entries(place.path()) == std::vector<std::string>{});
}

TEST_CASE("disk full: an update names the file, the old weights stay, and the next update works") {
  const TemporaryDirectory cache;
  const Environment place("ORION_CACHE_DIR", cache.path());
  const Environment simulated("ORION_SIM_PROFILE", hardware);
  for (const Update update : {Update::delta, Update::new_identity, Update::recompile}) {
    CAPTURE(std::string(ane::update_name(update)));
    restart_framework(hardware);
    const Updated updated(update);
    updated.update(1);  // from the second on, delta patches
    CHECK(updated.has(1));
    const std::size_t files = open_files();
    const sim::Counters before = library_counters(hardware);
    {
      const DiskFull full(16384);
      std::string message;
      try {
        updated.update(2);
      } catch (const Error& error) {
        message = error.what();
      }
      CAPTURE(message);
      CHECK(message.find("weight.bin: cannot write: File too large") != std::string::npos);
      const fs::path directory =
          message.substr(0, message.find("weight.bin: cannot")).substr(message.find('/'));
      CHECK_FALSE(fs::exists(directory / ".weight.bin.new"));
    }
    CHECK(updated.has(1));
    updated.update(2);
    CHECK(updated.has(2));
    CHECK(open_files() == files);
    CHECK(library_counters(hardware).directories == before.directories);
    CHECK(library_counters(hardware).models == before.models);
  }
}

TEST_CASE("disk full: a program that cannot be staged names the file, and the next one works") {
  const Environment simulated("ORION_SIM_PROFILE", hardware);
  ane::AneDevice device("ane", open_over_simulator(hardware), profile(), Update::delta);
  const auto make = [&] { return device.compile(sample_chain(layers), device.load(flat_weights(3))); };
  {
    const DiskFull full(16384);
    CHECK_THROWS_WITH_AS(make(), doctest::Contains("weight.bin: cannot write: File too large"), DeviceError);
  }
  check_nothing_left(hardware);
  CHECK(sample_output(*make()).identical(fresh_output(layers, flat_weights(3), profile())));
}

TEST_CASE("disk full: verdicts that cannot be kept are an error once, and serve this process") {
  constexpr const char* other = "macos26";  // nothing else in this process asks for its verdicts
  const Environment simulated("ORION_SIM_PROFILE", other);
  const TemporaryDirectory directory;
  replace_file(directory.path() / "file", "no directory");
  const Environment place("ORION_CACHE_DIR", directory.path() / "file" / "cache");
  ane::Runtime runtime(open_over_simulator(other), ane::find_profile(other));
  CHECK_THROWS_WITH_AS(ane::update_verdicts(runtime), doctest::Contains("ORION_CACHE_DIR"), Error);
  const std::int64_t compiles = runtime.usage().compiles;
  CHECK(ane::best_update(ane::update_verdicts(runtime), false) != Update::delta);
  CHECK(runtime.usage().compiles == compiles);
}
#endif
