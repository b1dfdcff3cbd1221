#include "orion/sampler.h"

#include "base/split_mix.h"
#include "orion/error.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>

namespace orion {
namespace {

std::uint64_t system_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

void check_finite(std::span<const float> logits) {
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i]))
      fail("the logit of token ", i, " is ", logits[i], "; with fp16 weights, fp32 may help");
}

std::int32_t largest(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
}

double log_sum_exp(std::span<const float> logits) {
  const auto most = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return most + std::log(sum);
}

std::vector<TokenLogprob> most_probable(std::span<const float> logits, double normaliser, std::size_t count) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  const auto before = [&](std::int32_t a, std::int32_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  const auto end = ids.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(ids.begin(), end, ids.end(), before);
  std::vector<TokenLogprob> top;
  for (auto id = ids.begin(); id != end; ++id)
    top.push_back({*id, static_cast<double>(logit(*id)) - normaliser});
  return top;
}

// Most probable first, lower ids first among equals.
constexpr auto by_rank = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

}  // namespace

Random::Random(std::uint64_t seed) : state_{} {
  for (std::uint64_t& word : state_) word = split_mix(seed);
}

std::uint64_t Random::next() {
  auto& s = state_;
  const std::uint64_t result = std::rotl(s[1] * 5, 7) * 9;
  const std::uint64_t shifted = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= shifted;
  s[3] = std::rotl(s[3], 45);
  return result;
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

void check(const SamplerOptions& options, std::int64_t vocab) {
  const auto within = [](double value, double least, double most) { return value >= least && value <= most; };
  if (!std::isfinite(options.temperature) || options.temperature < 0)
    fail("temperature is ", options.temperature, ", a finite number of at least 0 is needed");
  if (options.top_k < 0) fail("top_k is ", options.top_k, ", at least 0 is needed (0 keeps all)");
  if (!within(options.top_p, 0, 1) || options.top_p == 0)
    fail("top_p is ", options.top_p, ", more than 0 and at most 1 is needed");
  if (!within(options.min_p, 0, 1)) fail("min_p is ", options.min_p, ", from 0 to 1 is needed");
  if (!std::isfinite(options.repetition_penalty) || options.repetition_penalty <= 0)
    fail("repetition_penalty is ", options.repetition_penalty, ", a finite number above 0 is needed");
  if (options.logprobs && (*options.logprobs < 0 || *options.logprobs > vocab))
    fail("logprobs is ", *options.logprobs, ", from 0 to the vocabulary's ", vocab, " is needed");
}

Sampler::Sampler(const SamplerOptions& options, std::int64_t vocab)
    : options_(options),
      seed_(options.seed ? *options.seed : system_seed()),
      random_(seed_),
      is_seen_(static_cast<std::size_t>(vocab), false) {
  check(options, vocab);
}

void Sampler::see(std::int32_t id) {
  if (id < 0 || static_cast<std::size_t>(id) >= is_seen_.size())
    fail("sampler: token id ", id, " is outside the vocabulary of ", is_seen_.size());
  auto seen = is_seen_[static_cast<std::size_t>(id)];
  if (seen) return;
  seen = true;
  seen_.push_back(id);
}

Choice Sampler::choose(std::span<const float> logits) {
  if (logits.size() != is_seen_.size())
    fail("sampler: ", logits.size(), " logits for a vocabulary of ", is_seen_.size());
  check_finite(logits);
  const std::span<const float> wanted = penalised(logits);
  Choice choice{.id = options_.temperature == 0 ? largest(wanted) : draw(wanted)};
  if (options_.logprobs) {
    const double normaliser = log_sum_exp(logits);
    choice.logprob = static_cast<double>(logits[static_cast<std::size_t>(choice.id)]) - normaliser;
    choice.top = most_probable(logits, normaliser, static_cast<std::size_t>(*options_.logprobs));
  }
  see(choice.id);
  return choice;
}

std::span<const float> Sampler::penalised(std::span<const float> logits) {
  if (options_.repetition_penalty == 1.0) return logits;
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  penalised_.assign(logits.begin(), logits.end());
  for (const std::int32_t id : seen_) {
    float& logit = penalised_[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
    if (!std::isfinite(logit))
      fail("repetition_penalty ", penalty, " makes the logit of token ", id, ' ', logit);
  }
  return penalised_;
}

std::int32_t Sampler::draw(std::span<const float> logits) {
  collect(logits);
  keep_top_p();
  keep_min_p();
  return pick();
}

// The candidates that top-k leaves, by rank; without it all, by id: an order that no library decides, or
// the same seed would not give the same text everywhere. The best one has weight 1.
void Sampler::collect(std::span<const float> logits) {
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i)
    candidates_.push_back({static_cast<std::int32_t>(i), logits[i], 0.0});
  if (options_.top_k > 0 && options_.top_k < std::ssize(candidates_)) {
    std::ranges::partial_sort(candidates_, candidates_.begin() + options_.top_k, by_rank);
    candidates_.resize(static_cast<std::size_t>(options_.top_k));
  }
  const float best = std::ranges::max_element(candidates_, {}, &Candidate::logit)->logit;
  const double temperature = options_.temperature;
  for (Candidate& c : candidates_)
    c.weight = std::exp((static_cast<double>(c.logit) - static_cast<double>(best)) / temperature);
}

void Sampler::keep_top_p() {
  if (options_.top_p == 1.0) return;
  double total = 0.0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double wanted = options_.top_p * total;
  double sum = 0.0;
  std::size_t kept = 0;
  // Sorts in growing steps and no further than needed: the nucleus is usually a few of many thousands.
  for (std::size_t step = 64; kept < candidates_.size(); step *= 4) {
    const std::size_t sorted = std::min(candidates_.size(), kept + step);
    const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(kept);
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
    std::nth_element(begin, end, candidates_.end(), by_rank);
    std::sort(begin, end, by_rank);
    while (kept < sorted) {
      sum += candidates_[kept++].weight;
      if (sum >= wanted) {
        candidates_.resize(kept);
        return;
      }
    }
  }
}

void Sampler::keep_min_p() {
  if (options_.min_p == 0) return;
  std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < options_.min_p; });
}

std::int32_t Sampler::pick() {
  double total = 0.0;
  for (const Candidate& c : candidates_) total += c.weight;
  const double wanted = random_.uniform() * total;
  double sum = 0.0;
  for (const Candidate& c : candidates_) {
    sum += c.weight;
    if (sum > wanted) return c.id;
  }
  return candidates_.back().id;  // unreachable: `wanted` is below `total`, which this sum reaches
}

}  // namespace orion
