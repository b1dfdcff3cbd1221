// Segments of every architecture: legal on every profile, whatever the bucket.
#include "ane/legal_program.h"
#include "orion/generate.h"
#include "run/engine_model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>

using namespace orion;

namespace {

ConfigMap llama_like(std::string_view model_type) {
  return {{"model_type", std::string(model_type)},       {"vocab_size", std::int64_t{64}},
          {"max_position_embeddings", std::int64_t{48}}, {"hidden_size", std::int64_t{48}},
          {"intermediate_size", std::int64_t{80}},       {"num_hidden_layers", std::int64_t{2}},
          {"num_attention_heads", std::int64_t{6}},      {"num_key_value_heads", std::int64_t{2}}};
}

ConfigMap gpt2_124m() {
  return {{"model_type", std::string("gpt2")}, {"vocab_size", std::int64_t{50257}},
          {"n_positions", std::int64_t{1024}}, {"n_embd", std::int64_t{768}},
          {"n_layer", std::int64_t{12}},       {"n_head", std::int64_t{12}}};
}

std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> configs = {configure(gpt2_124m())};
  for (const std::string_view type : {"llama", "qwen2", "qwen3"})
    configs.push_back(configure(llama_like(type)));
  ConfigMap qwen3_06b = llama_like("qwen3");
  const std::pair<std::string_view, std::int64_t> sizes[] = {{"hidden_size", 1024},
                                                             {"intermediate_size", 3072},
                                                             {"num_attention_heads", 16},
                                                             {"num_key_value_heads", 8},
                                                             {"head_dim", 128},
                                                             {"vocab_size", 151936},
                                                             {"max_position_embeddings", 40960}};
  for (const auto& [key, size] : sizes) qwen3_06b.insert_or_assign(std::string(key), size);
  configs.push_back(configure(qwen3_06b));
  return configs;
}

std::vector<ModelConfig> tiny_configs() {
  ConfigMap gpt2 = gpt2_124m();
  const std::pair<std::string_view, std::int64_t> sizes[] = {
      {"n_embd", 48}, {"n_layer", 3}, {"n_head", 3}, {"vocab_size", 64}, {"n_positions", 48}};
  for (const auto& [key, size] : sizes) gpt2.insert_or_assign(std::string(key), size);
  gpt2.insert_or_assign("scale_attn_by_inverse_layer_idx", true);
  std::vector<ModelConfig> configs = {configure(gpt2)};
  for (const std::string_view type : {"llama", "qwen2", "qwen3"})
    configs.push_back(configure(llama_like(type)));
  return configs;
}

using Ids = std::vector<std::int32_t>;

Ids random_text(const ModelConfig& config, std::int64_t length) {
  Random random(static_cast<std::uint64_t>(length));
  Ids ids;
  for (std::int64_t i = 0; i < length; ++i)
    ids.push_back(static_cast<std::int32_t>(random.next() % static_cast<std::uint64_t>(config.vocab)));
  return ids;
}

TensorMap random_weights(const ModelConfig& config) {
  TensorMap weights;
  Random random(3);
  for (const Port& port : model_weights(config, DType::fp32)) {
    const Tensor tensor(port.type);
    const bool is_gain = port.type.shape.rank() == 1 && port.name.ends_with("weight");
    for (float& value : tensor.as<float>())
      value = static_cast<float>((random.uniform() * 2 - 1) * 0.3 + (is_gain ? 1.0 : 0.0));
    weights.emplace(port.name, tensor);
  }
  return weights;
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
  }

  std::shared_ptr<TextModel> whole, engine, prefill;
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

constexpr SegmentKind kinds[] = {SegmentKind::attention, SegmentKind::feed_forward, SegmentKind::projection,
                                 SegmentKind::output};

}  // namespace

TEST_CASE("every segment is legal on every profile") {
  for (const ModelConfig& config : configs()) {
    CAPTURE(config.model_type);
    for (const SegmentKind kind : kinds) {
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

TEST_CASE("segments compute what the whole model does, however the text is read") {
  for (const ModelConfig& config : tiny_configs()) {
    CAPTURE(config.model_type);
    const Models models(config);
    const Ids text = random_text(config, 40);
    const Tensor wanted = models.whole->logits(text);
    check_close(models.engine->logits(text), wanted);
    check_close(models.prefill->logits(text), wanted);
    const auto row = [&](std::int64_t i) { return last_row(wanted, i); };
    for (const auto& model : {models.engine, models.prefill}) {
      Session session(model, 1, 48);
      check_close(session.read(0, std::span(text).first(5)), row(4));
      check_close(session.read(0, std::span(text).subspan(5, 30), 5), row(34));
      check_close(session.step(Ids{text[35]}, Ids{35}), row(35));
      check_close(session.read(0, std::span(text).first(40)), row(39));
    }
  }
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
  const Models models(tiny_configs()[1]);
  const auto count = static_cast<std::int64_t>(decode_columns) + 3;
  Session engine(models.engine, count, 8);
  Session whole(models.whole, count, 8);
  Ids ids, positions;
  for (std::int64_t i = 0; i < count; ++i) {
    const Ids text = random_text(models.whole->config(), 2 + i % 3);
    engine.read(i, text);
    whole.read(i, text);
    ids.push_back(static_cast<std::int32_t>(i));
    positions.push_back(static_cast<std::int32_t>(text.size()));
  }
  check_close(engine.step(ids, positions), whole.step(ids, positions));
  CHECK(models.engine->compile_seconds() > 0.0);
  CHECK(models.prefill->device() == "cpu for prompts, cpu");
}

TEST_CASE("segments that are not there are refused") {
  const ModelConfig config = configure(llama_like("llama"));
  CHECK_THROWS_WITH(segment(config, {SegmentKind::attention, 2, 32}), "segment: layer 2 of a model with 2");
  CHECK_THROWS_WITH(segment(config, {SegmentKind::output, 0, 0}), "segment: 0 tokens, at least 1 is needed");
}
