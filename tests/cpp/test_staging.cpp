#include "ane/staging.h"
#include "base/file.h"
#include "disk_full.h"

#include <random>
#include <thread>

using namespace orion;
using ane::Staging;
using ane::StagingTurn;
using ane::Status;
using orion::test::DiskFull;

namespace fs = std::filesystem;

namespace {

fs::path fresh_path() {
  return fs::temp_directory_path() / ("orion-staging-" + std::to_string(std::random_device{}()));
}

std::unique_ptr<Staging> staged(const fs::path& directory, std::string_view weights) {
  const ane::WeightFileData file{"@model_path/weights/weight.bin", std::as_bytes(std::span(weights))};
  std::unique_ptr<Staging> staging;
  const Status status = Staging::open(directory, "text", {&file, 1}, staging);
  INFO(status.message());
  REQUIRE(status.ok());
  return staging;
}

bool open_weights(const fs::path& directory, std::unique_ptr<Staging>& staging) {
  constexpr std::string_view weights = "weights";
  const ane::WeightFileData file{"@model_path/weights/weight.bin", std::as_bytes(std::span(weights))};
  return Staging::open(directory, "text", {&file, 1}, staging).ok();
}

// Of 25 on each of four threads, each with its own of what `make` gives.
template <class Make>
int wrong_rounds(const Make& make) {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      auto is_right = make();
      for (int round = 0; round < 25; ++round)
        if (!is_right()) ++wrong;
    });
  for (std::thread& thread : threads) thread.join();
  return wrong;
}

}  // namespace

TEST_CASE("staging: the files are there until the last sibling goes") {
  const fs::path directory = fresh_path();
  std::unique_ptr<Staging> first = staged(directory, "weights");
  std::unique_ptr<Staging> second = staged(directory, "weights");
  CHECK(read_file(directory / "model.mil") == "text");
  CHECK(read_file(directory / "weights" / "weight.bin") == "weights");
  first.reset();
  CHECK(read_file(directory / "weights" / "weight.bin") == "weights");
  second.reset();
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("staging: a directory that was removed and made again belongs to the new one") {
  const fs::path directory = fresh_path();
  std::unique_ptr<Staging> old = staged(directory, "old");
  fs::remove_all(directory);
  const std::unique_ptr<Staging> next = staged(directory, "next");
  old.reset();
  CHECK(read_file(directory / "weights" / "weight.bin") == "next");
}

TEST_CASE("staging: what a crash of the machine has left of the files is not trusted") {
  const fs::path directory = fresh_path();
  const fs::path weight_file = directory / "weights" / "weight.bin";
  for (const char* left : {"", "wei", "weighs.", "weights and more"}) {
    CAPTURE(std::string(left));
    fs::create_directories(weight_file.parent_path());
    replace_file(weight_file, left);
    replace_file(directory / "model.mil", left);
    const std::unique_ptr<Staging> staging = staged(directory, "weights");
    CHECK(read_file(weight_file) == "weights");
    CHECK(read_file(directory / "model.mil") == "text");
  }
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("staging: a directory that the framework has removed is known to be gone") {
  const fs::path directory = fresh_path();
  const std::unique_ptr<Staging> first = staged(directory, "weights");
  CHECK(first->is_there());
  fs::remove_all(directory);
  CHECK_FALSE(first->is_there());
  const std::unique_ptr<Staging> second = staged(directory, "weights");
  CHECK(second->is_there());
  CHECK_FALSE(first->is_there());
}

TEST_CASE("staging: a program has its turn alone, and leaves no mark without a directory") {
  const fs::path directory = fresh_path();
  const fs::path mark = directory.parent_path() / ("." + directory.filename().string() + ".orion");
  std::unique_ptr<StagingTurn> turn, next;
  REQUIRE(StagingTurn::take(directory, ane::Seconds(1), turn).ok());
  const Status refused = StagingTurn::take(directory, ane::Seconds(0.02), next);
  CHECK(refused.kind == Status::Kind::refused);
  CHECK(refused.call == "stage");
  CHECK(refused.text.find(directory.string()) != std::string::npos);
  std::unique_ptr<StagingTurn> other;
  CHECK(StagingTurn::take(fresh_path(), ane::Seconds(0.02), other).ok());
  CHECK(fs::exists(mark));
  turn.reset();
  CHECK_FALSE(fs::exists(mark));
  REQUIRE(StagingTurn::take(directory, ane::Seconds(1), next).ok());
  std::unique_ptr<Staging> staging = staged(directory, "weights");
  next.reset();
  CHECK(fs::exists(mark));
  staging.reset();
  CHECK_FALSE(fs::exists(mark));
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("staging: whoever removes the directory in his turn breaks nobody who stages in his") {
  const fs::path directory = fresh_path();
  CHECK(wrong_rounds([&] {
          return [&directory, staging = std::unique_ptr<Staging>(), round = 0]() mutable {
            std::unique_ptr<StagingTurn> turn;
            if (!StagingTurn::take(directory, ane::Seconds(60), turn).ok()) return false;
            const bool is_there = staging != nullptr && staging->is_there();
            if (!is_there && !open_weights(directory, staging)) return false;
            const bool right = read_file(directory / "weights" / "weight.bin") == "weights";
            if (round++ % 3 == 0) fs::remove_all(directory);  // as the framework does when it unloads
            return right;
          };
        }) == 0);
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("staging: siblings come and go on many threads") {
  const fs::path directory = fresh_path();
  CHECK(wrong_rounds([&] {
          return [&directory] {
            std::unique_ptr<Staging> staging;
            return open_weights(directory, staging) &&
                   read_file(directory / "weights" / "weight.bin") == "weights";
          };
        }) == 0);
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("staging: a path outside the directory is refused, and nothing is left") {
  for (const char* path : {"weight.bin", "@model_path/", "@model_path/../weight.bin",
                           "@model_path//etc/weight.bin", "/etc/weight.bin"}) {
    CAPTURE(std::string(path));
    const fs::path directory = fresh_path();
    const ane::WeightFileData file{path, {}};
    std::unique_ptr<Staging> staging;
    const Status status = Staging::open(directory, "text", {&file, 1}, staging);
    CHECK(status.kind == Status::Kind::refused);
    CHECK(status.call == "stage");
    CHECK(status.text.find(path) != std::string::npos);
    CHECK(staging == nullptr);
    CHECK_FALSE(fs::exists(directory));
  }
}

TEST_CASE("staging: a full disk is named, and nothing is left") {
  const fs::path directory = fresh_path();
  const std::string weights(100000, 'w');
  const ane::WeightFileData file{"@model_path/weights/weight.bin", std::as_bytes(std::span(weights))};
  std::unique_ptr<Staging> staging;
  Status status;
  {
    const DiskFull full(4096);
    status = Staging::open(directory, "text", {&file, 1}, staging);
  }
  CHECK(status.kind == Status::Kind::refused);
  CHECK(status.text.find("weight.bin: cannot write") != std::string::npos);
  CHECK_FALSE(fs::exists(directory));
}
