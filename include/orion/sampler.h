// Choosing the next token from a model's logits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace orion {

/// xoshiro256** (Blackman and Vigna, 2018), its state filled from the seed by SplitMix64: the same
/// numbers on every platform.
class Random {
 public:
  explicit Random(std::uint64_t seed);
  std::uint64_t next();
  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform();

 private:
  std::uint64_t state_[4];
};

/// Filters apply in this order, each to what the one before left: repetition penalty, temperature, top-k,
/// top-p, min-p. Then one token is drawn from the renormalised rest.
struct SamplerOptions {
  /// Logits are divided by it. 0: the largest logit wins, the lowest id among equals.
  double temperature = 0.0;
  /// Keeps the k largest, lower ids first among equals. 0: all.
  std::int64_t top_k = 0;
  /// Keeps the fewest most probable tokens whose probabilities reach this sum. 1: all.
  double top_p = 1.0;
  /// Keeps tokens at least this times as probable as the most probable one. 0: all.
  double min_p = 0.0;
  /// Logits of tokens already seen are divided by it if positive, else multiplied (the CTRL paper,
  /// arXiv 1909.05858). 1: none.
  double repetition_penalty = 1.0;
  /// None: a seed of the system's; `Sampler::seed` tells which.
  std::optional<std::uint64_t> seed = std::nullopt;
  /// Report the log-probability of each chosen token, and of this many of the most probable ones. They are
  /// those of the model itself: no filter applied. None: report nothing.
  std::optional<std::int64_t> logprobs = std::nullopt;
};

struct TokenLogprob {
  std::int32_t id = 0;
  double logprob = 0.0;
};

struct Choice {
  std::int32_t id = 0;
  double logprob = 0.0;                // 0 if logprobs were not asked for
  std::vector<TokenLogprob> top = {};  // most probable first
};

/// Error naming the first option that is out of its range.
void check(const SamplerOptions& options, std::int64_t vocab);

class Sampler {
 public:
  Sampler(const SamplerOptions& options, std::int64_t vocab);

  std::uint64_t seed() const { return seed_; }
  /// Counts a token as seen by the repetition penalty; chosen tokens are counted by themselves.
  void see(std::int32_t id);
  /// One logit per token of the vocabulary. Error naming the token if one is infinite or not a number.
  Choice choose(std::span<const float> logits);

 private:
  struct Candidate {
    std::int32_t id;
    float logit;
    double weight;  // proportional to the probability
  };

  std::span<const float> penalised(std::span<const float> logits);
  std::int32_t draw(std::span<const float> logits);
  void collect(std::span<const float> logits);
  void keep_top_p();
  void keep_min_p();
  std::int32_t pick();

  SamplerOptions options_;
  std::uint64_t seed_;
  Random random_;
  std::vector<std::int32_t> seen_;
  std::vector<bool> is_seen_;
  std::vector<float> penalised_;
  std::vector<Candidate> candidates_;
};

}  // namespace orion
