#include "ane/time_limit.h"

#include <doctest/doctest.h>

#include <future>
#include <thread>

using namespace orion;
using ane::Seconds;
using ane::Status;

TEST_CASE("time limit: an answer in time is given as it is") {
  const Status status = ane::within(
      Seconds(60), "load", [] { return Status{Status::Kind::refused, "load", "domain", 6, "text"}; });
  CHECK(status.message() == "load: domain 6: text");
}

TEST_CASE("time limit: what the work owns is gone before its answer is given") {
  const auto owned = std::make_shared<int>(1);
  for (int i = 0; i < 100; ++i) {
    CHECK(ane::within(Seconds(60), "load", [owned] { return Status{}; }).ok());
    REQUIRE(owned.use_count() == 1);
  }
}

TEST_CASE("time limit: a call that takes too long is given up, and ends by itself") {
  std::promise<void> release;
  const auto owned = std::make_shared<std::shared_future<void>>(release.get_future());
  const Status status = ane::within(Seconds(0.02), "compile", [owned] {
    owned->wait();
    return Status{};
  });
  CHECK(status.kind == Status::Kind::timed_out);
  CHECK(status.message().starts_with("compile: no answer, within 0.02 s"));
  CHECK(ane::calls_given_up() == 1);
  CHECK(owned.use_count() == 2);
  CHECK(ane::within(Seconds(60), "load", [] { return Status{}; }).ok());
  release.set_value();
  while (ane::calls_given_up() > 0) std::this_thread::yield();
  CHECK(owned.use_count() == 1);
}
