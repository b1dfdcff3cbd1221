#include "ane/runtime.h"

#include "base/stopwatch.h"
#include "orion/error.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <utility>

namespace orion::ane {
namespace {

// Room left for programs that are loaded without the cache: updates in flight, self-tests.
constexpr std::int64_t slots_left_free = 16;

// Processes in the background are refused now and then (limit background-restricted).
constexpr std::chrono::milliseconds time_to_pass(3);

// Changes a text's identity and nothing else: a last line of blanks that spell a random number.
std::string blank_line() {
  std::random_device random;
  const std::uint64_t number = (std::uint64_t{random()} << 32U) ^ random();
  std::string line(64, ' ');
  for (std::size_t bit = 0; bit < line.size(); ++bit)
    if ((number >> bit & 1U) != 0) line[bit] = '\t';
  return line + '\n';
}

}  // namespace

void require(const Status& status) {
  if (!status.ok()) throw DeviceError(status.message());
}

Loaded::Loaded(std::unique_ptr<Model> model, Layout layout, Ownership ownership)
    : model_(std::move(model)), layout_(std::move(layout)), ownership_(ownership) {}

Loaded::~Loaded() {
  // A refusal here has nobody left to act on it; the engine frees the program with the process.
  static_cast<void>(model_->unload());
  if (ownership_ != Ownership::shared) static_cast<void>(model_->purge());
}

Status Loaded::evaluate(std::uint64_t user, std::span<Surface* const> inputs,
                        std::span<Surface* const> outputs) {
  const std::lock_guard lock(turn_);
  if (!usable_) return {Status::Kind::misused, "evaluate", "", 0, "the model must be loaded anew"};
  Status status;
  if (std::exchange(bound_to_, 0) != user) status = model_->bind(inputs, outputs);
  if (status.ok()) status = model_->evaluate();
  if (status.kind == Status::Kind::refused && status.call == "evaluate") {
    std::this_thread::sleep_for(time_to_pass);
    status = model_->evaluate();
  }
  if (status.kind == Status::Kind::timed_out) usable_ = false;
  if (status.ok()) bound_to_ = user;
  return status;
}

Runtime::Runtime(std::unique_ptr<Engine> engine, Profile profile)
    : engine_(std::move(engine)), profile_(std::move(profile)), info_(engine_->info()) {}

Usage Runtime::usage() const {
  const std::lock_guard lock(mutex_);
  return usage_;
}

std::int64_t Runtime::most_loaded() const {
  return std::max<std::int64_t>(1, profile_.loaded_programs - slots_left_free);
}

std::shared_ptr<Loaded> Runtime::load(const Image& image) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Model> model = make_model(image);
  const std::string identity = model->identifier();
  if (std::shared_ptr<Loaded> found = cached(identity)) return found;
  make_room();
  const bool known = model->compiled_exists();
  if (!known) spend_compile(*model);
  Status loaded = timed_load(*model);
  if (known && loaded.kind == Status::Kind::refused) loaded = purge_and_load(*model, loaded);
  require(loaded);
  if (known) ++usage_.known;
  cache_.push_front({identity, finish(std::move(model), Ownership::shared)});
  return cache_.front().loaded;
}

Status Runtime::purge_and_load(Model& model, const Status& refusal) {
  if (const Status purged = model.purge(); !purged.ok())
    throw DeviceError(str(refusal.message(), "; what was compiled earlier stays: ", purged.message()));
  ++usage_.purges;
  spend_compile(model);
  return timed_load(model);
}

std::shared_ptr<Loaded> Runtime::load_on_demand(const Image& image) {
  const std::lock_guard lock(mutex_);
  make_room();
  std::unique_ptr<Model> model = make_model(image);
  require(timed_load(*model));
  return finish(std::move(model), Ownership::passing);
}

std::shared_ptr<Loaded> Runtime::load_apart(Image image) {
  image.text += blank_line();
  const std::lock_guard lock(mutex_);
  make_room();
  std::unique_ptr<Model> model = make_model(image);
  require(timed_load(*model));
  return finish(std::move(model), Ownership::apart);
}

std::shared_ptr<Loaded> Runtime::compile(const Image& image) {
  const std::lock_guard lock(mutex_);
  make_room();
  std::unique_ptr<Model> model = make_model(image);
  spend_compile(*model);
  require(timed_load(*model));
  return finish(std::move(model), Ownership::passing);
}

void Runtime::clear() {
  const std::lock_guard lock(mutex_);
  cache_.remove_if([](const Cached& entry) { return entry.loaded.use_count() == 1; });
}

void Runtime::restart() {
  clear();
  const std::lock_guard lock(mutex_);
  usage_ = {};
}

std::unique_ptr<Model> Runtime::make_model(const Image& image) {
  const WeightFileData file{std::string(weight_path), image.weights};
  std::unique_ptr<Model> model;
  require(engine_->create_model(image.text, std::span(&file, image.weights.empty() ? 0 : 1), model));
  return model;
}

void Runtime::spend_compile(Model& model) {
  if (usage_.compiles >= profile_.compile_budget)
    throw DeviceError(str("compile: this process has used its ", profile_.compile_budget,
                          " compiles, after which the engine's compiler fails silently; restart the process, "
                          "what is compiled by then is found again"));
  ++usage_.compiles;
  const Stopwatch watch(usage_.compile_seconds);
  require(model.compile());
}

Status Runtime::timed_load(Model& model) {
  ++usage_.loads;
  const Stopwatch watch(usage_.load_seconds);
  return model.load();
}

std::shared_ptr<Loaded> Runtime::finish(std::unique_ptr<Model> model, Ownership ownership) {
  Layout layout;
  const Status status = model->layout(layout);
  if (!status.ok() && status.kind != Status::Kind::unavailable) require(status);
  return std::make_shared<Loaded>(std::move(model), std::move(layout), ownership);
}

std::shared_ptr<Loaded> Runtime::cached(const std::string& identity) {
  const auto found = std::ranges::find(cache_, identity, &Cached::identity);
  if (found == cache_.end()) return nullptr;
  if (!found->loaded->usable()) {
    cache_.erase(found);
    return nullptr;
  }
  ++usage_.cache_hits;
  cache_.splice(cache_.begin(), cache_, found);
  return found->loaded;
}

void Runtime::make_room() {
  const std::int64_t most = most_loaded();
  for (auto entry = cache_.end();
       entry != cache_.begin() && static_cast<std::int64_t>(cache_.size()) >= most;) {
    --entry;
    if (entry->loaded.use_count() == 1) entry = cache_.erase(entry);
  }
}

}  // namespace orion::ane
