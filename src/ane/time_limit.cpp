#include "ane/time_limit.h"

#include "orion/error.h"

#include <unistd.h>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace orion::ane {
namespace {

constexpr double default_seconds = 60;
constexpr double most_seconds = 86400;

std::atomic<long> given_up{0};

struct Job {
  std::function<Status()> work;
  Status answer;
  bool done = false;
  bool is_given_up = false;
};

// A thread that does one job at a time. It belongs to itself: whoever waits for it may give up.
struct Worker {
  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<Job> job;
};

// Workers without a job. Never destroyed: threads outlive the program's statics.
class Idle {
 public:
  std::shared_ptr<Worker> take() {
    const std::lock_guard lock(mutex_);
    forget_those_before_fork();
    if (workers_.empty()) return nullptr;
    std::shared_ptr<Worker> worker = std::move(workers_.back());
    workers_.pop_back();
    return worker;
  }
  void put(std::shared_ptr<Worker> worker) {
    const std::lock_guard lock(mutex_);
    workers_.push_back(std::move(worker));
  }

 private:
  // A forked process has its parent's list, without the threads.
  void forget_those_before_fork() {
    if (process_ != ::getpid()) workers_.clear();
    process_ = ::getpid();
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<Worker>> workers_;
  pid_t process_ = ::getpid();
};

Idle& idle() {
  static Idle& instance = *new Idle;
  return instance;
}

std::shared_ptr<Job> next_job(Worker& worker) {
  std::unique_lock lock(worker.mutex);
  worker.changed.wait(lock, [&] { return worker.job != nullptr; });
  return worker.job;
}

// Whether somebody still waits for the answer.
bool finish(Worker& worker, Job& job, Status answer) {
  const std::lock_guard lock(worker.mutex);
  job.answer = std::move(answer);
  job.done = true;
  worker.job = nullptr;
  worker.changed.notify_all();
  return !job.is_given_up;
}

void serve(const std::shared_ptr<Worker>& worker) {
  while (true) {
    const std::shared_ptr<Job> job = next_job(*worker);
    Status answer = std::exchange(job->work, nullptr)();
    if (finish(*worker, *job, std::move(answer))) continue;
    idle().put(worker);
    --given_up;
  }
}

bool answered(Worker& worker, const std::shared_ptr<Job>& job, Seconds limit) {
  std::unique_lock lock(worker.mutex);
  worker.job = job;
  worker.changed.notify_all();
  job->is_given_up = !worker.changed.wait_for(lock, limit, [&] { return job->done; });
  if (job->is_given_up) ++given_up;
  return job->done;
}

std::shared_ptr<Worker> idle_or_new_worker() {
  if (auto worker = idle().take()) return worker;
  auto worker = std::make_shared<Worker>();
  std::thread([worker] { serve(worker); }).detach();
  return worker;
}

}  // namespace

Status within(Seconds limit, std::string_view call, std::function<Status()> work) {
  std::shared_ptr<Worker> worker;
  try {
    worker = idle_or_new_worker();
  } catch (const std::system_error& error) {
    return {Status::Kind::unavailable, std::string(call), "", 0, str("no thread to call on: ", error.what())};
  }
  const auto job = std::make_shared<Job>();
  job->work = std::move(work);
  if (answered(*worker, job, limit)) {
    idle().put(worker);
    return std::move(job->answer);
  }
  return {Status::Kind::timed_out, std::string(call), "", 0,
          str("within ", limit.count(), " s (ORION_ANE_TIMEOUT): what it works on is not used again")};
}

long calls_given_up() {
  return given_up;
}

Status time_limit_from_environment(Seconds& limit) {
  const char* text = std::getenv("ORION_ANE_TIMEOUT");
  limit = Seconds(default_seconds);
  if (text == nullptr) return {};
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds > 0 && seconds <= most_seconds))
    return {Status::Kind::misused, "open", "", 0,
            str("ORION_ANE_TIMEOUT is '", text, "': a number of seconds is needed, above 0 and up to ",
                most_seconds)};
  limit = Seconds(seconds);
  return {};
}

}  // namespace orion::ane
