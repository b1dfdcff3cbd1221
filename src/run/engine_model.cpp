#include "run/engine_model.h"

#include "base/stopwatch.h"
#include "orion/error.h"
#include "run/planes.h"

#include <algorithm>
#include <numeric>

namespace orion {
namespace {

using Ids = std::vector<std::int32_t>;

// Columns without a token repeat the last one: numbers like any other, which no token sees.
Ids filled(std::span<const std::int32_t> values, std::int64_t columns) {
  Ids result(values.begin(), values.end());
  result.resize(static_cast<std::size_t>(columns), values.back());
  return result;
}

Ids counted(std::int64_t from, std::size_t count) {
  Ids positions(count);
  std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(from));
  return positions;
}

// Binds every port of a program to the plane of its name, made if it is the first to use it. Layers hand x on
// from one plane to another, so that no program reads what it writes.
void connect(const AdaptedProgram& adapted, TensorMap& planes, std::string_view x, std::string_view hidden) {
  Program& program = *adapted.program;
  const auto plane = [&](const Port& port) {
    const std::string_view name = port.name == "x" ? x : port.name == "hidden" ? hidden : port.name;
    return planes.try_emplace(std::string(name), Tensor(port.type)).first->second;
  };
  const auto is_adapter = [&](const Port& port) {
    return std::ranges::find(adapted.ports, port.name, &PackedLora::port) != adapted.ports.end();
  };
  for (const Port& port : program.inputs())
    if (!is_adapter(port)) program.bind(port.name, plane(port));
  for (const Port& port : program.outputs()) program.bind(port.name, plane(port));
}

void give(const AdaptedProgram& adapted, const AdapterInputs& adapter) {
  for (std::size_t i = 0; i < adapted.ports.size(); ++i)
    write_packed(*adapter, adapted.ports[i], adapted.memory[i]);
}

// A swap is this: other content of the inputs.
void give(SegmentSet& set, const AdapterInputs& adapter) {
  if (set.adapter == adapter) return;
  for (const AdaptedProgram& program : set.before) give(program, adapter);
  for (const AdaptedProgram& program : set.after) give(program, adapter);
  set.adapter = adapter;
}

constexpr std::string_view planes_of_x[] = {"x", "hidden"};

}  // namespace

// -- programs -------------------------------------------------------------------------------------

EngineModel::EngineModel(ModelConfig config, Device& engine, Device& host, EngineUse use, EngineParts parts)
    : config_(std::move(config)),
      engine_(engine),
      host_(host),
      use_(use),
      where_(engine.name()),
      parts_(std::move(parts)),
      rotary_(config_) {
  const std::int64_t needed = programs_of_set() + head_programs();
  if (const std::int64_t most = engine.limits().loaded; needed > most)
    throw DeviceError(str(engine.name(), ": a model of ", config_.layers, " layers takes ", needed,
                          " programs at once, the engine holds ", most, "; device cpu runs it"));
  if (parts_.buckets.empty()) fail("engine model: no programs that read prompts");
  if (parts_.host_model) where_ += str(" for prompts, ", host.name());
  for (const Port& weight : model_weights(config_, DType::fp16)) parameters_ += weight.type.shape.size();
}

EngineModel::EngineModel(ModelConfig config, const WeightSource& weights, Device& engine, Device& host,
                         EngineUse use)
    : EngineModel(config, engine, host, use, engine_parts(config, weights, engine, host, use)) {}

double EngineModel::compile_seconds() const {
  return compile_seconds_ + (parts_.host_model != nullptr ? parts_.host_model->compile_seconds() : 0.0);
}

std::int64_t EngineModel::compiles() const {
  return compiles_ + (parts_.host_model != nullptr ? parts_.host_model->compiles() : 0);
}

std::vector<std::string> EngineModel::notes() const {
  const std::lock_guard lock(notes_turn_);
  return notes_;
}

void EngineModel::note(std::string sentence) {
  const std::lock_guard lock(notes_turn_);
  if (std::ranges::find(notes_, sentence) == notes_.end()) notes_.push_back(std::move(sentence));
}

void EngineModel::note_host(const SegmentSet* start) {
  const std::int64_t most = start == nullptr ? 0 : start->columns;
  note(str("of prompts, what goes beyond ", most, " tokens is read on ", host_.name()));
}

AdaptedProgram EngineModel::on_engine(const SegmentShape& shape) {
  return adapted([&](const LoraShape& capacity, std::vector<PackedLora>& ports) {
    return parts_.program(shape, capacity, ports);
  });
}

std::unique_ptr<Program> EngineModel::on_host(const Graph& graph,
                                              const std::shared_ptr<DeviceWeights>& weights) {
  const Stopwatch watch(compile_seconds_);
  return host_.compile(graph, weights);
}

// The smallest that holds the tokens, or else the largest.
std::int64_t EngineModel::bucket_for(std::int64_t tokens) const {
  const auto found = std::ranges::lower_bound(parts_.buckets, tokens);
  return found == parts_.buckets.end() ? parts_.buckets.back() : *found;
}

EngineModel::SetKey EngineModel::set_key(std::int64_t columns, bool decodes) const {
  return {columns, decodes, adapter_->capacity.rank, adapter_->capacity.targets};
}

// Whether the engine's budget pays for a set, and afterwards still for what every text needs: the decode
// segments and the head. What was compiled once is found again.
bool EngineModel::is_affordable(std::int64_t columns, bool decodes) const {
  if (paid_.contains(set_key(columns, decodes))) return true;
  std::int64_t needed = programs_of_set();
  const bool will_decode = use_ != EngineUse::prefill && !paid_.contains(set_key(decode_columns, true));
  if (will_decode && !decodes) needed += programs_of_set();
  if (engine_head_ == nullptr) needed += head_programs();
  return needed <= engine_.limits().compiles_left;
}

// The set that reads the first tokens of a text; null if nothing does but the decode segments, or the host.
SegmentSet* EngineModel::starting_set(std::int64_t tokens) {
  const std::int64_t wanted = bucket_for(tokens);
  if (is_affordable(wanted, false)) return &segments(wanted, false);
  SegmentSet* best = nullptr;
  for (const auto& set : sets_) {
    if (set->decodes || set->adapter->capacity != adapter_->capacity) continue;
    const bool holds = set->columns >= wanted;
    const bool better = best == nullptr || (best->columns < wanted ? set->columns > best->columns
                                                                   : holds && set->columns < best->columns);
    if (better) best = set.get();
  }
  note_bucket(wanted, best);
  return best == nullptr ? nullptr : &segments(best->columns, false);
}

void EngineModel::note_bucket(std::int64_t wanted, const SegmentSet* used) {
  const std::string rest =
      parts_.host_model != nullptr ? str("on ", host_.name()) : str(decode_columns, " at a time");
  const std::string how = used == nullptr           ? rest
                          : used->columns >= wanted ? str("in ", used->columns, " columns")
                                                    : str("in ", used->columns, " columns and then ", rest);
  note(str(
      "prompts that need ", wanted, " columns are read ", how, ": ", programs_of_set(),
      " programs more are beyond the engine's budget of compiles in this process; a new process has a new "
      "budget and finds what was compiled"));
}

SegmentSet& EngineModel::segments(std::int64_t columns, bool decodes) {
  const auto wanted = [&](const auto& set) {
    return set->columns == columns && set->decodes == decodes && set->adapter->capacity == adapter_->capacity;
  };
  const auto found = std::ranges::find_if(sets_, wanted);
  if (found != sets_.end()) {
    sets_.splice(sets_.begin(), sets_, found);
    give(*sets_.front(), adapter_);
    return *sets_.front();
  }
  const std::int64_t room = (engine_.limits().loaded - head_programs()) / programs_of_set();
  while (!sets_.empty() && static_cast<std::int64_t>(sets_.size()) >= room) sets_.pop_back();
  sets_.push_front(compiled(columns, decodes));
  paid_.insert(set_key(columns, decodes));
  return *sets_.front();
}

std::unique_ptr<SegmentSet> EngineModel::compiled(std::int64_t columns, bool decodes) {
  auto set = std::make_unique<SegmentSet>();
  set->columns = columns;
  set->decodes = decodes;
  const auto add = [&](std::vector<AdaptedProgram>& programs, SegmentKind kind, std::int64_t layer,
                       std::size_t from) {
    programs.push_back(on_engine({.kind = kind, .layer = layer, .tokens = columns}));
    connect(programs.back(), set->planes, planes_of_x[from], planes_of_x[1 - from]);
  };
  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    const std::size_t from = decodes ? static_cast<std::size_t>(layer % 2) : 0;
    add(set->before, decodes ? SegmentKind::projection : SegmentKind::attention, layer, from);
    add(set->after, decodes ? SegmentKind::output : SegmentKind::feed_forward, layer, decodes ? from : 1);
  }
  set->embedding = on_host(embedding_segment(config_, columns), parts_.host_weights);
  set->embedding->bind("x", set->planes.at("x"));
  give(*set, adapter_);
  return set;
}

AdaptedProgram EngineModel::adapted(const MakeAdapted& make) {
  AdaptedProgram result{.program = nullptr, .ports = {}, .capacity = adapter_->capacity};
  {
    const Stopwatch watch(compile_seconds_);
    ++compiles_;
    result.program = make(result.capacity, result.ports);
  }
  for (const PackedLora& packed : result.ports) {
    result.memory.emplace_back(TensorType{DType::fp16, {packed.rank, packed.width}});
    result.program->bind(packed.port, result.memory.back());
  }
  return result;
}

Program& EngineModel::cache_step(const CacheStepShape& shape) {
  std::unique_ptr<Program>& program = cache_steps_[shape];
  if (!program) program = on_host(cache_step_segment(config_, shape), host_.load({}));
  return *program;
}

AdaptedProgram& EngineModel::head(std::int64_t batch) {
  AdaptedProgram& head = heads_[batch];
  if (!head.program || head.capacity != adapter_->capacity)
    head = adapted([&](const LoraShape& capacity, std::vector<PackedLora>& ports) {
      return host_.compile(with_room(head_segment(config_, batch), capacity, ports), parts_.host_weights);
    });
  give(head, adapter_);
  return head;
}

EngineHead& EngineModel::engine_head() {
  if (!engine_head_)
    engine_head_ = std::make_unique<EngineHead>(config_, engine_.limits(), [this](const SegmentShape& part) {
      const Stopwatch watch(compile_seconds_);
      ++compiles_;
      std::vector<PackedLora> no_ports;
      return parts_.program(part, {.rank = 0}, no_ports);
    });
  return *engine_head_;
}

std::int64_t EngineModel::head_programs() const {
  if (use_ != EngineUse::prefill_decode_and_head) return 0;
  return static_cast<std::int64_t>(head_parts(config_, engine_.limits()).size());
}

// -- columns --------------------------------------------------------------------------------------

void EngineModel::embed(SegmentSet& set, std::span<const std::int32_t> ids,
                        std::span<const std::int32_t> positions) {
  Ids places = filled(positions, set.columns);
  const auto last = static_cast<std::int32_t>(config_.context - 1);
  for (std::int32_t& place : places) place = std::min(place, last);
  set.embedding->bind("ids", Tensor::from_ints(filled(ids, set.columns)));
  set.embedding->bind("positions", Tensor::from_ints(places));
  set.embedding->run();
  if (!rotary_.empty()) rotary_.write(places, set.planes.at("cos"), set.planes.at("sin"));
}

// Reads one text from its start; caches, if any are given, get its keys and values. What follows is in x.
const Tensor& EngineModel::prefill(SegmentSet& set, std::span<const std::int32_t> ids,
                                   std::span<const Tensor> caches) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  embed(set, ids, counted(0, ids.size()));
  for (std::size_t layer = 0; layer < set.before.size(); ++layer) {
    set.before[layer].program->run();
    if (!caches.empty()) {
      store_columns(set.planes.at("k"), tokens, caches[2 * layer], 0);
      store_columns(set.planes.at("v"), tokens, caches[2 * layer + 1], 0);
    }
    set.after[layer].program->run();
  }
  return set.planes.at("x");
}

// Reads B T tokens at once, column b T + t being token t of sequence b; at most decode_columns.
const Tensor& EngineModel::decode(const CacheStep& step) {
  SegmentSet& set = segments(decode_columns, true);
  const Shape& ids = step.ids.shape();
  Ids positions;
  for (const std::int32_t first : step.positions.as<std::int32_t>())
    std::ranges::copy(counted(first, static_cast<std::size_t>(ids[1])), std::back_inserter(positions));
  embed(set, step.ids.as<std::int32_t>(), positions);
  CacheStepShape shape{.batch = ids[0], .tokens = ids[1], .rows = step.caches.front().shape()[2]};
  for (std::size_t layer = 0; layer < set.before.size(); ++layer) {
    set.before[layer].program->run();
    if (config_.scale_scores_by_layer) shape.layer = static_cast<std::int64_t>(layer);
    Program& attention = cache_step(shape);
    for (const std::string_view plane : {"q", "k", "v", "attended"})
      attention.bind(plane, set.planes.find(plane)->second);
    attention.bind("position", unowned(step.positions));
    attention.bind("k_cache", unowned(step.caches[2 * layer]));
    attention.bind("v_cache", unowned(step.caches[2 * layer + 1]));
    attention.run();
    set.after[layer].program->run();
  }
  return set.planes.find(planes_of_x[set.before.size() % 2])->second;
}

// Reads tokens of one sequence piece by piece, the first by prefill if the text starts here.
void EngineModel::read(std::span<const std::int32_t> ids, std::int64_t position,
                       std::span<const Tensor> caches, const Receive& receive) {
  while (!ids.empty()) {
    const auto left = static_cast<std::int64_t>(ids.size());
    SegmentSet* start = position == 0 ? starting_set(left) : nullptr;
    const std::int64_t count = std::min(left, start != nullptr ? start->columns : decode_columns);
    const auto piece = ids.first(static_cast<std::size_t>(count));
    const Ids first = {static_cast<std::int32_t>(position)};
    receive(start != nullptr ? prefill(*start, piece, caches)
                             : decode({.ids = Tensor::from_ints(piece).reshaped({1, count}),
                                       .positions = Tensor::from_ints(first),
                                       .caches = caches,
                                       .logits = {}}),
            count);
    ids = ids.subspan(static_cast<std::size_t>(count));
    position += count;
  }
}

// rows (B, C) -> logits (B, V)
void EngineModel::predict(const Tensor& rows, const Tensor& logits) {
  if (use_ == EngineUse::prefill_decode_and_head) {
    if (is_lora_target("lm_head", adapter_->capacity.targets))
      fail(
          "adapter: 'lm_head' has its product on the engine, where it cannot have an adapter; load the model "
          "with its head on the host");
    return engine_head().predict(rows, logits);
  }
  Program& program = *head(rows.shape()[0]).program;
  program.bind("x", unowned(rows));
  program.bind("logits", unowned(logits));
  program.run();
}

// -- what is asked --------------------------------------------------------------------------------

Tensor EngineModel::logits(std::span<const std::int32_t> ids) {
  check_ids(ids, "logits");
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const std::lock_guard lock(turn_);
  adapter_ = adapters().inputs();
  const SegmentSet* start = starting_set(tokens);
  const bool in_pieces = start == nullptr || start->columns < tokens;
  if (parts_.host_model != nullptr && in_pieces) {
    note_host(start);
    return parts_.host_model->logits(ids, adapter_);
  }
  std::vector<Tensor> caches;
  if (in_pieces)
    for (std::int64_t i = 0; i < 2 * config_.layers; ++i)
      caches.emplace_back(cache_type(config_, 1, tokens, DType::fp16));
  const Tensor result({DType::fp32, {tokens, config_.vocab}});
  std::byte* next = result.data();
  read(ids, 0, caches, [&](const Tensor& x, std::int64_t count) {
    const Tensor part = Tensor::view({DType::fp32, {count, config_.vocab}}, next);
    predict(rows_of(x, 0, count), part);
    next += part.bytes();
  });
  return result;
}

void EngineModel::extend(const CacheStep& step) {
  const std::lock_guard lock(turn_);
  by_adapter(step, [this](const CacheStep& part) { extend_part(part); });
}

// Sequences that share an adapter.
void EngineModel::extend_part(const CacheStep& step) {
  adapter_ = step.adapters.front();
  const Shape& ids = step.ids.shape();
  if (parts_.host_model != nullptr)
    extend_with_host(step);
  else if (ids[0] == 1 && ids[1] > 1)
    extend_one(step);
  else
    extend_batch(step);
}

// The start of a text in a bucket, as far as it fits, all else on the host.
void EngineModel::extend_with_host(const CacheStep& step) {
  const bool starts = step.ids.shape()[0] == 1 && step.positions.as<std::int32_t>()[0] == 0;
  if (!starts) return parts_.host_model->extend(step);
  const auto ids = step.ids.as<std::int32_t>();
  SegmentSet* set = starting_set(static_cast<std::int64_t>(ids.size()));
  const std::size_t count = set == nullptr ? 0 : std::min(ids.size(), static_cast<std::size_t>(set->columns));
  if (count > 0) {
    const Tensor& x = prefill(*set, ids.first(count), step.caches);
    if (count == ids.size()) return predict(rows_of(x, static_cast<std::int64_t>(count) - 1, 1), step.logits);
  }
  note_host(set);
  const auto rest = ids.subspan(count);
  const Ids first = {static_cast<std::int32_t>(count)};
  parts_.host_model->extend(
      {.ids = Tensor::from_ints(rest).reshaped({1, static_cast<std::int64_t>(rest.size())}),
       .positions = Tensor::from_ints(first),
       .caches = step.caches,
       .logits = step.logits,
       .adapters = step.adapters});
}

void EngineModel::extend_one(const CacheStep& step) {
  const std::int32_t position = step.positions.as<std::int32_t>()[0];
  const auto ids = step.ids.as<std::int32_t>();
  Tensor last;
  read(ids, position, step.caches,
       [&](const Tensor& x, std::int64_t count) { last = rows_of(x, count - 1, 1); });
  predict(last, step.logits);
}

// One token of each sequence, as many sequences at once as there are columns.
void EngineModel::extend_batch(const CacheStep& step) {
  const Shape& ids = step.ids.shape();
  if (ids[1] != 1)
    fail("extend: ", ids[1], " tokens in each of ", ids[0], " sequences; read long texts one by one");
  const auto share = [](const Tensor& values, std::int64_t begin, std::int64_t count) {
    return Tensor::from_ints(
        values.as<std::int32_t>().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
  };
  for (std::int64_t begin = 0; begin < ids[0]; begin += decode_columns) {
    const std::int64_t count = std::min(decode_columns, ids[0] - begin);
    std::vector<Tensor> caches;
    for (const Tensor& cache : step.caches) caches.push_back(first_axis(cache, begin, count));
    const Tensor& x = decode({.ids = share(step.ids, begin, count).reshaped({count, 1}),
                              .positions = share(step.positions, begin, count),
                              .caches = caches,
                              .logits = {}});
    predict(rows_of(x, 0, count), first_axis(step.logits, begin, count));
  }
}

}  // namespace orion
