// Text generation, one token per sequence and step.
#pragma once

#include "orion/adapters.h"
#include "orion/sampler.h"

namespace orion {

/// The key/value cache of a batch of sequences, and the programs that extend it.
class Session {
 public:
  /// Room for `rows` tokens in each of `batch` sequences; at most the model's context. `adapters` is what
  /// each sequence is read with; without, it is what is active at each call.
  Session(std::shared_ptr<TextModel> model, std::int64_t batch, std::int64_t rows,
          std::vector<AdapterInputs> adapters = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  std::int64_t batch() const { return batch_; }
  std::int64_t rows() const { return rows_; }
  const TextModel& model() const { return *model_; }

  /// Reads `ids` as the tokens of one sequence from `position` on. Returns fp32 (V,): what follows.
  Tensor read(std::int64_t sequence, std::span<const std::int32_t> ids, std::int64_t position = 0);
  /// Reads one token of every sequence. Returns fp32 (B, V), overwritten by the next call.
  Tensor step(std::span<const std::int32_t> ids, std::span<const std::int32_t> positions);

 private:
  void check_rows(std::int64_t position, std::size_t count) const;

  std::shared_ptr<TextModel> model_;
  std::int64_t batch_;
  std::int64_t rows_;
  std::vector<AdapterInputs> adapters_;
  Tensor memory_;               // of the model, for all caches
  std::vector<Tensor> caches_;  // (B, G, S, D) each: keys and values of each layer
  Tensor ids_;                  // (B, 1)
  Tensor positions_;            // (B,)
  Tensor logits_;               // (B, V)
};

struct GenerateOptions {
  std::int64_t max_tokens = 256;
  /// Prompt i of a batch draws with seed + i (modulo 2^64).
  SamplerOptions sampler = {};
  /// Tokens that end a completion. They are reported but are no part of it.
  std::vector<std::int32_t> stop_tokens = {};
  /// The adapter of each prompt, as it is when the generation is made. Without: the one that is active at
  /// each token, whichever that is by then.
  std::vector<AdapterChoice> adapters = {};
};

/// Why a completion ended: a stop token (or `Generation::stop`), `max_tokens`, or the model's context, when
/// the token predicted from its last position has been given.
enum class Finish : std::uint8_t { none, stop, length, context };
/// "", "stop", "length" or "context".
std::string_view finish_name(Finish finish);

struct GeneratedToken {
  std::size_t sequence = 0;
  Choice choice = {};
  Finish finish = Finish::none;
  bool is_stop_token = false;  // then not part of the completion
};

/// Completes prompts of any lengths together. Nothing is computed beyond what the tokens given need.
class Generation {
 public:
  /// Error if a prompt is empty or longer than the context, a token is outside the vocabulary, or an
  /// option out of its range.
  Generation(std::shared_ptr<TextModel> model, std::vector<std::vector<std::int32_t>> prompts,
             GenerateOptions options);

  bool done() const;
  /// The next token of every sequence that is not finished. The first call reads the prompts.
  std::vector<GeneratedToken> step();
  /// Ends a sequence, for example because its text holds a stop string.
  void stop(std::size_t sequence);
  Finish finish(std::size_t sequence) const { return sequences_.at(sequence).finish; }
  std::uint64_t seed() const { return seed_; }

 private:
  struct Sequence {
    std::vector<std::int32_t> prompt;
    Sampler sampler;
    std::int32_t last = 0;      // token to read next
    std::int64_t position = 0;  // where it stands
    std::int64_t given = 0;     // tokens of the completion so far
    Finish finish = Finish::none;
  };

  void read_prompts(std::vector<GeneratedToken>& tokens);
  void read_last_tokens(std::vector<GeneratedToken>& tokens);
  GeneratedToken advance(std::size_t index, std::span<const float> logits);

  std::shared_ptr<TextModel> model_;
  GenerateOptions options_;
  std::uint64_t seed_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<AdapterInputs> adapters_;
  std::optional<Session> session_;
  bool started_ = false;
};

}  // namespace orion
