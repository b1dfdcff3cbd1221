// Segments of every architecture: legal on every profile, whatever the bucket.
#include "ane/device.h"
#include "ane/legal_program.h"
#include "model_samples.h"
#include "orion/error.h"
#include "orion/generate.h"
#include "orion/passes.h"
#include "orion/train.h"
#include "run/engine_model.h"
#include "run/train_stages.h"
#include "sim/simulator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

using namespace orion;
using namespace orion::test;

namespace {

// A simulated engine that no other test has used.
ane::AneDevice fresh_engine(const ane::Profile& profile) {
  sim::restart(profile.name);
  return {"sim:" + profile.name, sim::open_simulator(profile), profile, ane::Update::automatic};
}

using Ids = std::vector<std::int32_t>;

Ids random_text(const ModelConfig& config, std::int64_t length) {
  Random random(static_cast<std::uint64_t>(length));
  Ids ids;
  for (std::int64_t i = 0; i < length; ++i)
    ids.push_back(static_cast<std::int32_t>(random.next() % static_cast<std::uint64_t>(config.vocab)));
  return ids;
}

// One model of random weights, run whole in fp32 and in segments.
struct Models {
  explicit Models(const ModelConfig& config, Device& device = find_device("cpu")) {
    const TensorMap weights = random_weights(config);
    const WeightSource source = [&](const std::string& name) { return weights.at(name); };
    Device& cpu = find_device("cpu");
    whole = std::make_shared<LanguageModel>(config, source, DType::fp32, cpu);
    engine = std::make_shared<EngineModel>(config, source, device, cpu, EngineUse::prefill_and_decode);
    prefill = std::make_shared<EngineModel>(config, source, device, cpu, EngineUse::prefill);
    with_head =
        std::make_shared<EngineModel>(config, source, device, cpu, EngineUse::prefill_decode_and_head);
  }

  std::shared_ptr<TextModel> whole, engine, prefill, with_head;
};

Tensor last_row(const Tensor& logits, std::int64_t row) {
  const std::int64_t vocab = logits.shape()[1];
  return Tensor::view({DType::fp32, {1, vocab}}, logits.data() + row * vocab * 4);
}

void check_close(const Tensor& got, const Tensor& wanted, double tolerance = 0.05) {
  REQUIRE(got.shape().size() == wanted.shape().size());
  double worst = 0.0;
  for (std::int64_t i = 0; i < wanted.shape().size(); ++i)
    worst = std::max(worst, std::abs(got.at(i) - wanted.at(i)));
  CHECK(worst < tolerance);
}

constexpr SegmentKind layer_kinds[] = {SegmentKind::attention, SegmentKind::feed_forward};

ModelConfig stories_110m() {
  ConfigMap map = llama_like("llama");
  const std::pair<std::string_view, std::int64_t> sizes[] = {{"hidden_size", 768},
                                                             {"intermediate_size", 2048},
                                                             {"num_hidden_layers", 12},
                                                             {"num_attention_heads", 12},
                                                             {"num_key_value_heads", 12},
                                                             {"vocab_size", 32000},
                                                             {"max_position_embeddings", 1024}};
  for (const auto& [key, size] : sizes) map.insert_or_assign(std::string(key), size);
  return configure(map);
}

Stages training_stages(const ModelConfig& config, const SegmentShape& shape) {
  return layer_stages(training_layer(config, shape), false);
}

// Which weights a program holds is another matter than its structure.
Graph without_weights(const Graph& graph) {
  std::vector<WeightPort> ports;
  return weights_as_inputs(graph, ports);
}

// The layers of a model of 600 million parameters outgrow the memory near the engine, which costs time alone.
bool is_large(const ModelConfig& config) {
  return config.heads * config.head_dim > 1024;
}

void check_legal(const Graph& graph, const ane::Profile& profile, bool may_be_slow) {
  CAPTURE(profile.name);
  const ane::LegalProgram program = ane::legalize_program(graph, profile);
  for (const ane::Violation& violation : ane::violations(program.graph, profile))
    if (violation.limit->effect != ane::Effect::slow || !may_be_slow)
      FAIL_CHECK(violation.limit->id, ": ", violation.where);
  CHECK(program.weights.size() <= 16);
  if (!may_be_slow) CHECK(ane::sram_estimate(program.graph).peak <= profile.sram_bytes);
}

}  // namespace

TEST_CASE("training stages are legal on every profile") {
  std::vector<ModelConfig> all = configs();
  all.push_back(stories_110m());
  for (const ModelConfig& config : all) {
    CAPTURE(config.model_type);
    CAPTURE(config.width);
    for (const SegmentKind kind : layer_kinds)
      for (const std::int64_t batch : {1, 2})
        for (const std::int64_t tokens : {16, 48, 256}) {
          if (tokens > config.context) continue;
          CAPTURE(segment_name(kind));
          CAPTURE(batch);
          CAPTURE(tokens);
          const Stages stages =
              training_stages(config, {.kind = kind, .layer = 1, .tokens = tokens, .batch = batch});
          for (const ane::Profile& profile : ane::all_profiles()) {
            check_legal(stages.forward, profile, is_large(config));
            check_legal(stages.backward, profile, is_large(config));
          }
        }
  }
}

// An engine compiles about 119 programs in a process's life; a training of this model may take 72.
TEST_CASE("training Stories110M takes 48 programs, each legal on every profile") {
  const ModelConfig config = stories_110m();
  std::int64_t programs = 0;
  for (const SegmentKind kind : layer_kinds) {
    const Stages first = training_stages(config, {.kind = kind, .layer = 0, .tokens = 256});
    for (const ane::Profile& profile : ane::all_profiles())
      for (const Graph* graph : {&first.forward, &first.backward}) check_legal(*graph, profile, false);
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
      const Stages stages = training_stages(config, {.kind = kind, .layer = layer, .tokens = 256});
      CHECK(same_structure(without_weights(stages.forward), without_weights(first.forward)));
      CHECK(same_structure(without_weights(stages.backward), without_weights(first.backward)));
      programs += 2;
    }
  }
  CHECK(programs == 48);
}

// As many as the trainer has compiled.
TEST_CASE("a trainer of twelve layers compiles 48 programs, whatever their width") {
  ConfigMap map = llama_like("llama");
  map.insert_or_assign("num_hidden_layers", std::int64_t{12});
  const ModelConfig config = configure(map);
  const TensorMap weights = random_weights(config);
  for (const std::string_view name : {"macos26", "paper-m4-macos15"}) {
    ane::AneDevice engine = fresh_engine(ane::find_profile(name));
    const Trainer trainer(config, [&](const std::string& weight) { return weights.at(weight); }, engine,
                          find_device("cpu"), {.batch = 1, .sequence = 16});
    CHECK(trainer.programs() == 48);
    CHECK(engine.runtime().usage().compiles == 48);
  }
}

TEST_CASE("every segment is legal on every profile") {
  for (const ModelConfig& config : configs()) {
    CAPTURE(config.model_type);
    for (const SegmentKind kind : segment_kinds) {
      if (kind == SegmentKind::head) continue;  // in parts, below
      CAPTURE(segment_name(kind));
      const bool is_prefill = kind == SegmentKind::attention || kind == SegmentKind::feed_forward;
      for (const std::int64_t tokens : is_prefill ? prefill_buckets() : std::span(&decode_columns, 1)) {
        const Graph graph = segment(config, {kind, 1, tokens});
        for (const ane::Profile& profile : ane::all_profiles()) {
          CAPTURE(profile.name);
          const ane::LegalProgram program = ane::legalize_program(graph, profile);
          for (const ane::Violation& violation : ane::violations(program.graph, profile))
            FAIL_CHECK(violation.limit->id, ": ", violation.where);
          CHECK(program.weights.size() <= 16);
        }
      }
    }
  }
}

// Heads in parts: how many for each profile, whatever else is in a program.
TEST_CASE("every part of a head is legal, and the parts make the vocabulary") {
  const std::vector<ModelConfig> all = configs();
  const std::pair<std::size_t, std::vector<std::size_t>> wanted[] = {
      {0, {3, 3, 3, 4}}, {1, {1, 1, 1, 1}}, {4, {10, 10, 10, 10}}};
  for (const auto& [index, counts] : wanted) {
    const ModelConfig& config = all[index];
    CAPTURE(config.model_type);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const ane::Profile& profile = ane::all_profiles()[i];
      CAPTURE(profile.name);
      const std::vector<SegmentShape> parts = head_parts(config, fresh_engine(profile).limits());
      CHECK(parts.size() == counts[i]);
      std::int64_t next = 0;
      for (const SegmentShape& part : parts) {
        CHECK(part.first == next);
        next += part.count;
        const ane::LegalProgram program = ane::legalize_program(segment(config, part), profile);
        CHECK(program.outputs.size() == 1);
        for (const ane::Violation& violation : ane::violations(program.graph, profile))
          FAIL_CHECK(violation.limit->id, ": ", violation.where);
      }
      CHECK(next == config.vocab);
    }
  }
}

TEST_CASE("a head is cut by whatever limit is the tightest") {
  const ModelConfig config = configure(tiny_gpt2(48));
  const std::int64_t token = 2 * config.width;
  const std::pair<ProgramLimits, std::size_t> rows[] = {
      {{}, 1}, {{.channels = 67}, 1}, {{.channels = 66}, 2}, {{.weight_bytes = 12 * token}, 7}};
  for (const auto& [limits, parts] : rows) CHECK(head_parts(config, limits).size() == parts);
  CHECK_THROWS_AS(head_parts(config, {.working_bytes = 1000}), DeviceError);
}

TEST_CASE("segments compute what the whole model does, however the text is read") {
  for (const ModelConfig& config : tiny_configs()) {
    CAPTURE(config.model_type);
    const Models models(config);
    const Ids text = random_text(config, 40);
    const Tensor wanted = models.whole->logits(text);
    check_close(models.engine->logits(text), wanted);
    check_close(models.prefill->logits(text), wanted);
    check_close(models.with_head->logits(text), wanted);
    const auto row = [&](std::int64_t i) { return last_row(wanted, i); };
    for (const auto& model : {models.engine, models.prefill, models.with_head}) {
      Session session(model, 1, 48);
      check_close(session.read(0, std::span(text).first(5)), row(4));
      check_close(session.read(0, std::span(text).subspan(5, 30), 5), row(34));
      check_close(session.step(Ids{text[35]}, Ids{35}), row(35));
      check_close(session.read(0, std::span(text).first(40)), row(39));
    }
  }
}

TEST_CASE("every profile reads prompts of every length, up to the context's last position") {
  constexpr std::int64_t context = 80;  // within a bucket
  for (const ane::Profile& profile : ane::all_profiles()) {
    CAPTURE(profile.name);
    for (const ModelConfig& config : tiny_configs(context)) {
      CAPTURE(config.model_type);
      ane::AneDevice engine = fresh_engine(profile);
      const Models models(config, engine);
      const Ids text = random_text(config, context);
      const Tensor wanted = models.whole->logits(text);
      for (const auto& model : {models.prefill, models.with_head}) {
        check_close(model->logits(text), wanted);
        Session session(model, 1, context);
        for (const std::size_t length : {1U, 31U, 32U, 33U, 64U, 65U, 80U}) {
          CAPTURE(length);
          const auto last = static_cast<std::int64_t>(length) - 1;
          check_close(session.read(0, std::span(text).first(length)), last_row(wanted, last));
        }
        session.read(0, std::span(text).first(79));
        check_close(session.step(Ids{text[79]}, Ids{79}), last_row(wanted, 79));
        CHECK(model->notes().empty());
      }
    }
  }
}

// Prompt lengths, one after the other, and what is noted after all of them.
struct Conversation {
  EngineUse use;
  std::vector<std::int64_t> lengths;
  std::vector<std::string> notes;  // how each begins
};

TEST_CASE("a conversation across all buckets stays within the engine's budget") {
  const ane::Profile& profile = ane::find_profile("paper-m4-macos15");
  const ModelConfig config = configure(tiny_gpt2(1100, 12));
  const TensorMap weights = random_weights(config);
  const WeightSource source = [&](const std::string& name) { return weights.at(name); };
  Device& cpu = find_device("cpu");
  LanguageModel whole(config, source, DType::fp32, cpu);
  const Conversation conversations[] = {
      {EngineUse::prefill_and_decode,
       {10, 50, 100, 200, 400, 1060, 20},
       {"prompts that need 256 columns are read in 128 columns and then 16 at a time: 24 programs more",
        "prompts that need 512 columns are read in 128", "prompts that need 1024 columns are read in 128"}},
      {EngineUse::prefill_decode_and_head,
       {400, 50, 20, 100},
       {"prompts that need 128 columns are read in 512 columns: 24 programs more"}},
      {EngineUse::prefill,
       {10, 50, 100, 200, 400},
       {"prompts that need 512 columns are read in 256 columns and then on cpu: ",
        "of prompts, what goes beyond 256 tokens is read on cpu"}}};
  for (const auto& [use, lengths, notes] : conversations) {
    ane::AneDevice engine = fresh_engine(profile);
    const auto model = std::make_shared<EngineModel>(config, source, engine, cpu, use);
    Session session(model, 1, config.context);
    for (const std::int64_t length : lengths) {
      CAPTURE(length);
      const Ids text = random_text(config, length + 1);
      const Tensor wanted = whole.logits(text);
      check_close(session.read(0, std::span(text).first(text.size() - 1)), last_row(wanted, length - 1));
      check_close(session.step(Ids{text.back()}, Ids{static_cast<std::int32_t>(length)}),
                  last_row(wanted, length));
    }
    CHECK(engine.runtime().usage().compiles <= profile.compile_budget);
    REQUIRE(model->notes().size() == notes.size());
    for (std::size_t i = 0; i < notes.size(); ++i) CHECK(model->notes()[i].starts_with(notes[i]));
  }
}

TEST_CASE("what an engine cannot hold or compile is refused with a way out") {
  ane::Profile profile = ane::find_profile("strict");
  ane::AneDevice engine = fresh_engine(profile);
  CHECK_THROWS_WITH_AS(Models(configure(tiny_gpt2(48, 60)), engine),
                       "sim:strict: a model of 60 layers takes 120 programs at once, the engine holds 112; "
                       "device cpu runs it",
                       DeviceError);
  profile.compile_budget = 5;
  ane::AneDevice spent = fresh_engine(profile);
  const Models models(configure(tiny_gpt2(48)), spent);
  Session session(models.engine, 1, 48);
  CHECK_THROWS_WITH_AS(session.read(0, Ids{1, 2, 3}),
                       doctest::Contains("this process has used its 5 compiles"), DeviceError);
  const Tensor wanted = models.whole->logits(Ids{1, 2, 3});
  check_close(Session(models.prefill, 1, 48).read(0, Ids{1, 2, 3}), last_row(wanted, 2));
  CHECK(models.prefill->notes().size() == 2);
}

TEST_CASE("texts longer than the largest bucket go on in the decode segments") {
  ConfigMap map = llama_like("llama");
  map.insert_or_assign("max_position_embeddings", std::int64_t{1100});
  const Models models(configure(map));
  const Ids text = random_text(models.whole->config(), 1045);
  const Tensor wanted = models.whole->logits(text);
  check_close(models.engine->logits(text), wanted);
  for (const auto& model : {models.engine, models.prefill})
    check_close(Session(model, 1, 1100).read(0, text), last_row(wanted, 1044));
}

TEST_CASE("more sequences than columns are read together") {
  ane::AneDevice simulated = fresh_engine(ane::find_profile("strict"));
  const Models models(tiny_configs()[1], simulated);
  const auto count = static_cast<std::int64_t>(decode_columns) + 3;
  Session engine(models.engine, count, 8);
  Session with_head(models.with_head, count, 8);
  Session whole(models.whole, count, 8);
  Ids ids, positions;
  for (std::int64_t i = 0; i < count; ++i) {
    const Ids text = random_text(models.whole->config(), 2 + i % 3);
    engine.read(i, text);
    with_head.read(i, text);
    whole.read(i, text);
    ids.push_back(static_cast<std::int32_t>(i));
    positions.push_back(static_cast<std::int32_t>(text.size()));
  }
  const Tensor wanted = whole.step(ids, positions);
  check_close(engine.step(ids, positions), wanted);
  check_close(with_head.step(ids, positions), wanted);
  CHECK(models.engine->compile_seconds() > 0.0);
  CHECK(models.prefill->device() == "sim:strict for prompts, cpu");
}

TEST_CASE("segments that are not there are refused") {
  const ModelConfig config = configure(llama_like("llama"));
  CHECK_THROWS_WITH(segment(config, {SegmentKind::attention, 2, 32}), "segment: layer 2 of a model with 2");
  CHECK_THROWS_WITH(segment(config, {SegmentKind::output, 0, 0}), "segment: 0 tokens, at least 1 is needed");
  CHECK_THROWS_WITH(segment(config, {.kind = SegmentKind::output, .count = 8}),
                    "segment: output has no part of the vocabulary, only head has");
  CHECK_THROWS_WITH(segment(config, {.kind = SegmentKind::head, .layer = 1}),
                    "segment: head of layer 1, a model has one head: layer 0");
  CHECK_THROWS_WITH(segment(config, {.kind = SegmentKind::head, .first = 60, .count = 5}),
                    "segment: 5 tokens from 60 on, the vocabulary has 64");
}
