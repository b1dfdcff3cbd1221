#include "ane/runtime.h"

#include "base/stopwatch.h"
#include "orion/error.h"

#include <algorithm>
#include <random>
#include <utility>

namespace orion::ane {
namespace {

// Room left for programs that are loaded without the cache: updates in flight, self-tests.
constexpr std::int64_t slots_left_free = 16;

// Of a load that failed because as many programs are loaded as the engine takes (limit loaded-programs).
constexpr std::string_view too_many_programs = "0x50004";

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

Runtime::Runtime(std::unique_ptr<Engine> engine, Profile profile)
    : engine_(std::move(engine)),
      profile_(std::move(profile)),
      info_(engine_->info()),
      share_(share_of(info_)) {}

Runtime::~Runtime() {
  const std::lock_guard lock(share_->mutex);
  share_->cache.drop_idle();
}

Usage Runtime::usage() const {
  const std::lock_guard lock(share_->mutex);
  return share_->usage;
}

std::int64_t Runtime::most_loaded() const {
  return std::max<std::int64_t>(1, profile_.loaded_programs - slots_left_free);
}

std::shared_ptr<Loaded> Runtime::load(const Image& image) {
  const std::lock_guard lock(share_->mutex);
  std::unique_ptr<Model> model = make_model(image);
  const std::string identity = model->identifier();
  if (std::shared_ptr<Loaded> found = share_->cache.find(identity)) {
    ++share_->usage.cache_hits;
    return found;
  }
  share_->cache.make_room(most_loaded());
  const bool known = model->compiled_exists();
  if (!known) spend_compile(*model);
  Status loaded = timed_load(*model);
  if (known && loaded.kind == Status::Kind::refused) loaded = purge_and_load(*model, loaded);
  require(loaded);
  if (known) ++share_->usage.known;
  std::shared_ptr<Loaded> result = finish(std::move(model), Ownership::shared);
  share_->cache.keep(identity, result);
  return result;
}

Status Runtime::purge_and_load(Model& model, const Status& refusal) {
  if (const Status purged = model.purge(); !purged.ok())
    throw DeviceError(str(refusal.message(), "; what was compiled earlier stays: ", purged.message()));
  ++share_->usage.purges;
  spend_compile(model);
  return timed_load(model);
}

std::shared_ptr<Loaded> Runtime::load_on_demand(const Image& image) {
  const std::lock_guard lock(share_->mutex);
  share_->cache.make_room(most_loaded());
  std::unique_ptr<Model> model = make_model(image);
  require(timed_load(*model));
  return finish(std::move(model), Ownership::passing);
}

std::shared_ptr<Loaded> Runtime::load_apart(Image image) {
  image.text += blank_line();
  const std::lock_guard lock(share_->mutex);
  share_->cache.make_room(most_loaded());
  std::unique_ptr<Model> model = make_model(image);
  require(timed_load(*model));
  return finish(std::move(model), Ownership::apart);
}

std::shared_ptr<Loaded> Runtime::compile(const Image& image) {
  const std::lock_guard lock(share_->mutex);
  share_->cache.make_room(most_loaded());
  std::unique_ptr<Model> model = make_model(image);
  spend_compile(*model);
  require(timed_load(*model));
  return finish(std::move(model), Ownership::passing);
}

void Runtime::release(std::shared_ptr<Loaded> replaced) {
  const std::lock_guard lock(share_->mutex);
  share_->cache.release(std::move(replaced));
}

std::unique_ptr<Model> Runtime::make_model(const Image& image) {
  const WeightFileData file{std::string(weight_path), image.weights};
  std::unique_ptr<Model> model;
  require(engine_->create_model(image.text, std::span(&file, image.weights.empty() ? 0 : 1), model));
  return model;
}

void Runtime::spend_compile(Model& model) {
  if (share_->usage.compiles >= profile_.compile_budget)
    throw DeviceError(str("compile: this process has used its ", profile_.compile_budget,
                          " compiles, after which the engine's compiler fails silently; restart the process, "
                          "what is compiled by then is found again"));
  ++share_->usage.compiles;
  const Stopwatch watch(share_->usage.compile_seconds);
  require(model.compile());
}

// Others may have loaded programs that the cache does not count: then idle ones make room.
Status Runtime::timed_load(Model& model) {
  const Stopwatch watch(share_->usage.load_seconds);
  ++share_->usage.loads;
  Status status = model.load();
  const bool is_full =
      status.kind == Status::Kind::refused && status.text.find(too_many_programs) != std::string::npos;
  if (!is_full || !share_->cache.drop_idle()) return status;
  ++share_->usage.loads;
  return model.load();
}

std::shared_ptr<Loaded> Runtime::finish(std::unique_ptr<Model> model, Ownership ownership) {
  Layout layout;
  const Status status = model->layout(layout);
  if (!status.ok() && status.kind != Status::Kind::unavailable) require(status);
  return std::make_shared<Loaded>(std::move(model), std::move(layout), ownership);
}

}  // namespace orion::ane
