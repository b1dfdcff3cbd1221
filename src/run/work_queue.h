// One thread that works off a bounded queue, in order.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace orion {

class WorkQueue {
 public:
  explicit WorkQueue(std::size_t most);
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  /// Waits while the queue is full. After a piece of work has thrown, later ones are dropped.
  void add(std::function<void()> work);
  /// Waits until all is done; throws what the first failing piece threw, once.
  void finish();

 private:
  void loop();

  std::size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool working_ = false;
  bool stop_ = false;
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace orion
