// A tiny random model: its cache against its own full text, batches, and every end of a text.
#include "error_message.h"
#include "orion/generate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

using namespace orion;
using namespace orion::test;

namespace {

using Ids = std::vector<std::int32_t>;

ConfigMap tiny_llama() {
  return {{"model_type", std::string("llama")},          {"vocab_size", std::int64_t{23}},
          {"max_position_embeddings", std::int64_t{12}}, {"hidden_size", std::int64_t{12}},
          {"intermediate_size", std::int64_t{14}},       {"num_hidden_layers", std::int64_t{2}},
          {"num_attention_heads", std::int64_t{2}},      {"num_key_value_heads", std::int64_t{1}}};
}

std::shared_ptr<LanguageModel> make_model(DType dtype = DType::fp32) {
  const ModelConfig config = configure(tiny_llama());
  TensorMap weights;
  Random random(7);
  for (const Port& port : model_weights(config, DType::fp32)) {
    const Tensor tensor(port.type);
    for (float& value : tensor.as<float>()) value = static_cast<float>(random.uniform() * 2 - 1);
    weights.emplace(port.name, tensor);
  }
  const WeightSource source = [&](const std::string& name) { return weights.at(name); };
  return std::make_shared<LanguageModel>(config, source, dtype, find_device("cpu"));
}

void check_close(std::span<const float> a, std::span<const float> b, double tolerance = 1e-4) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    CHECK(std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) < tolerance);
}

std::vector<Ids> complete(const std::shared_ptr<LanguageModel>& model, const std::vector<Ids>& prompts,
                          const GenerateOptions& options) {
  Generation generation(model, prompts, options);
  std::vector<Ids> ids(prompts.size());
  while (!generation.done())
    for (const GeneratedToken& token : generation.step())
      if (!token.is_stop_token) ids[token.sequence].push_back(token.choice.id);
  return ids;
}

}  // namespace

TEST_CASE("sessions take turns in the same memory, as if it were new") {
  const auto model = make_model();
  const Tensor first = model->cache_memory(4000);
  std::fill(first.data(), first.data() + 4000, std::byte{255});
  const std::byte* address = first.data();
  model->keep_cache_memory(first);
  const Tensor smaller = model->cache_memory(1000);
  CHECK(smaller.data() == address);
  CHECK(std::count(smaller.data(), smaller.data() + 1000, std::byte{0}) == 1000);
  model->keep_cache_memory(smaller);
  CHECK(model->cache_memory(999).bytes() == 999);  // not a fourth of it
}

TEST_CASE("a session computes what the whole text does, however it is read") {
  const auto model = make_model();
  const Ids text = {4, 0, 22, 9, 9, 1, 17};
  const Tensor whole = model->logits(text);
  const auto row = [&](std::size_t position) { return whole.as<float>().subspan(position * 23, 23); };
  Session session(model, 2, 12);
  check_close(session.read(1, std::span(text).first(3)).as<float>(), row(2));
  check_close(session.read(1, std::span(text).subspan(3, 2), 3).as<float>(), row(4));
  check_close(session.read(0, std::span(text).first(6)).as<float>(), row(5));
  const Tensor both = session.step(Ids{17, 1}, Ids{6, 5});
  check_close(both.as<float>().first(23), row(6));
  check_close(both.as<float>().last(23), row(5));
}

TEST_CASE("fp16 stays near fp32") {
  const Ids text = {4, 0, 22, 9, 9, 1, 17};
  check_close(make_model(DType::fp16)->logits(text).as<float>(), make_model()->logits(text).as<float>(), 0.2);
}

TEST_CASE("prompts complete together as they do alone, and at their own ends") {
  const auto model = make_model();
  const std::vector<Ids> prompts = {{1}, {5, 6, 7, 8, 9, 10, 11, 12}, {22, 0, 3}};
  const GenerateOptions options{.max_tokens = 7};
  const std::vector<Ids> together = complete(model, prompts, options);
  for (std::size_t i = 0; i < prompts.size(); ++i)
    CHECK(complete(model, {prompts[i]}, options)[0] == together[i]);
  CHECK(together[0].size() == 7);
  CHECK(together[1].size() == 5);  // predicted from positions 7 to 11, the last there is
  Generation generation(model, prompts, options);
  while (!generation.done()) generation.step();
  CHECK(finish_name(generation.finish(0)) == "length");
  CHECK(finish_name(generation.finish(1)) == "context");
}

TEST_CASE("stop tokens and callers end a text") {
  const auto model = make_model();
  const Ids all = complete(model, {{1}}, {.max_tokens = 6})[0];
  GenerateOptions options{.max_tokens = 6, .stop_tokens = {all[2]}};
  const Ids before(all.begin(), std::ranges::find(all, all[2]));
  CHECK(complete(model, {{1}}, options)[0] == before);
  Generation generation(model, {{1}, {2}}, {.max_tokens = 6});
  CHECK(generation.step().size() == 2);
  generation.stop(0);
  CHECK(generation.step().size() == 1);
  CHECK(generation.finish(0) == Finish::stop);
  CHECK(complete(model, {{1}}, {.max_tokens = 0})[0].empty());
}

TEST_CASE("what cannot be generated is refused by name") {
  const auto model = make_model();
  const auto generate = [&](const std::vector<Ids>& prompts, const GenerateOptions& options) {
    return message_of([&] { Generation(model, prompts, options); });
  };
  CHECK(generate({}, {}) == "generate: no prompt given");
  CHECK(generate({{}}, {}) == "prompt: no token ids given, at least one is needed");
  CHECK(generate({{1}, Ids(13, 1)}, {}) == "prompt 1: 13 tokens, the model's context holds 12");
  CHECK(generate({{1, 23}}, {}) == "prompt: token id 23 at index 1 is outside the vocabulary of 23");
  CHECK(generate({{1}}, {.max_tokens = -1}) == "max_tokens is -1, at least 0 is needed");
  CHECK(generate({{1}}, {.stop_tokens = {-1}}) == "stop token id -1 is outside the vocabulary of 23");
  Generation over(model, {{1}}, {.max_tokens = 1});
  over.step();
  CHECK(message_of([&] { over.step(); }) == "generate: every sequence is finished");
  CHECK(message_of([&] { over.stop(1); }) == "generate: no sequence 1 in a batch of 1");
  CHECK(message_of([&] { Session(model, 1, 13); }) ==
        "session: 13 rows, from 1 to the context's 12 are possible");
  Session session(model, 1, 4);
  CHECK(message_of([&] { session.read(0, Ids{1, 2}, 3); }) ==
        "session: 2 tokens at position 3 do not fit its 4 rows");
  CHECK(message_of([&] { session.read(1, Ids{1}); }) == "session: sequence 1 of a batch of 1");
  CHECK(message_of([&] { session.step(Ids{1}, Ids{-1}); }) ==
        "session: 1 tokens at position -1 do not fit its 4 rows");
}
