// Directories that are filled beside their place, by writers that may be killed.
#include "base/file.h"
#include "base/staged_directory.h"
#include "temporary_directory.h"

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <csignal>
#include <set>

using namespace orion;

namespace fs = std::filesystem;

namespace {

std::set<std::string> names(const fs::path& directory) {
  std::set<std::string> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory))
    found.insert(entry.path().filename().string());
  return found;
}

// A writer that stops in the middle and waits to be killed, which it is.
void write_and_be_killed(const fs::path& target) {
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const StagedDirectory stage(target);
    replace_file(stage.path() / "half", "of it");
    if (::write(ready[1], "", 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  ::close(ready[1]);
  char byte = 1;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  ::close(ready[0]);
  REQUIRE(::kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
}

}  // namespace

TEST_CASE("directories: what a killed writer has left goes with the next one of the same place") {
  const Directory place;
  for (int kill = 0; kill < 2; ++kill) write_and_be_killed(place / "target");
  CHECK(place.files() == 1);  // of the second: it has removed the first's
  write_and_be_killed(place / "target2");
  CHECK(place.files() == 2);
  {
    StagedDirectory stage(place / "target");
    replace_file(stage.path() / "whole", "");
    stage.commit();
  }
  CHECK(names(place / "target") == std::set<std::string>{"whole"});
  CHECK(place.files() == 2);
}

TEST_CASE("directories: a writer that lives is left alone, as is what only looks like one's") {
  const Directory place;
  StagedDirectory first(place / "target");
  for (const char* name :
       {".target..partial", ".target.xyz.partial", ".target.12.partial.old", "target.12.partial"})
    fs::create_directory(place / name);
  replace_file(place / ".target.12.partial", "a file");
  {
    StagedDirectory second(place / "target");
    CHECK(fs::exists(first.path()));
    replace_file(second.path() / "second", "");
    second.commit();
  }
  replace_file(first.path() / "first", "");
  first.commit();
  CHECK(names(place / "target") == std::set<std::string>{"first"});
  CHECK(place.files() == 7);  // with what the first has replaced
}
