// Random numbers and the choice of tokens.
#include "error_message.h"
#include "orion/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>

using namespace orion;
using namespace orion::test;

namespace {

const std::vector<float> logits = {1.0F, 3.0F, -2.0F, 3.0F, 0.5F, 2.0F};
constexpr std::int64_t vocab = 6;

std::set<std::int32_t> drawn(SamplerOptions options, int draws = 2000) {
  options.seed = 1;
  Sampler sampler(options, vocab);
  std::set<std::int32_t> ids;
  for (int i = 0; i < draws; ++i) ids.insert(sampler.choose(logits).id);
  return ids;
}

}  // namespace

TEST_CASE("random numbers are those of xoshiro256** seeded by SplitMix64") {
  const std::map<std::uint64_t, std::vector<std::uint64_t>> expected = {
      {0, {0x99ec5f36cb75f2b4, 0xbf6e1f784956452a, 0x1a5f849d4933e6e0, 0x6aa594f1262d2d2c}},
      {42, {0x15780b2e0c2ec716, 0x6104d9866d113a7e, 0xae17533239e499a1, 0xecb8ad4703b360a1}},
      {std::numeric_limits<std::uint64_t>::max(),
       {0x8f5520d52a7ead08, 0xc476a018caa1802d, 0x81de31c0d260469e, 0xbf658d7e065f3c2f}},
  };
  for (const auto& [seed, numbers] : expected) {
    Random random(seed);
    for (const std::uint64_t number : numbers) CHECK(random.next() == number);
  }
  Random random(0);
  CHECK(random.uniform() == static_cast<double>(0x99ec5f36cb75f2b4 >> 11) / 9007199254740992.0);
}

TEST_CASE("greedy takes the first of the largest logits") {
  Sampler sampler({}, vocab);
  for (int i = 0; i < 3; ++i) CHECK(sampler.choose(logits).id == 1);
}

TEST_CASE("filters keep what they say, lower ids first among equals") {
  CHECK(drawn({.temperature = 1.0}) == std::set<std::int32_t>{0, 1, 2, 3, 4, 5});
  CHECK(drawn({.temperature = 1.0, .top_k = 1}) == std::set<std::int32_t>{1});
  CHECK(drawn({.temperature = 1.0, .top_k = 3}) == std::set<std::int32_t>{1, 3, 5});
  CHECK(drawn({.temperature = 1.0, .top_k = 99}).size() == 6);
  // Probabilities: 0.40 0.40 0.15 0.05 0.03 0.003 of tokens 1 3 5 0 4 2.
  CHECK(drawn({.temperature = 1.0, .top_p = 1e-9}) == std::set<std::int32_t>{1});
  CHECK(drawn({.temperature = 1.0, .top_p = 0.5}) == std::set<std::int32_t>{1, 3});
  CHECK(drawn({.temperature = 1.0, .top_p = 0.9}) == std::set<std::int32_t>{1, 3, 5});
  CHECK(drawn({.temperature = 1.0, .min_p = 1.0}) == std::set<std::int32_t>{1, 3});
  CHECK(drawn({.temperature = 1.0, .min_p = 0.3}) == std::set<std::int32_t>{1, 3, 5});
  // top-p sees what top-k leaves: tokens 1 and 3, each one half.
  CHECK(drawn({.temperature = 1.0, .top_k = 2, .top_p = 0.5}) == std::set<std::int32_t>{1});
  CHECK(drawn({.temperature = 1e-300}) == std::set<std::int32_t>{1, 3});
}

TEST_CASE("a repetition penalty divides positive logits and multiplies negative ones") {
  const std::vector<float> two = {2.0F, 1.5F};
  Sampler sampler({.repetition_penalty = 2.0}, 2);
  CHECK(sampler.choose(two).id == 0);  // now 1.0 against 1.5
  CHECK(sampler.choose(two).id == 1);  // 1.0 against 0.75; a second sighting changes nothing
  CHECK(sampler.choose(two).id == 0);
  CHECK(sampler.choose(two).id == 0);
  const std::vector<float> negative = {-1.0F, -1.5F};
  Sampler other({.repetition_penalty = 2.0}, 2);
  other.see(0);
  CHECK(other.choose(negative).id == 1);
}

TEST_CASE("log-probabilities are those of the untouched logits") {
  Sampler sampler({.temperature = 0.5, .top_k = 1, .repetition_penalty = 3.0, .logprobs = 2}, vocab);
  sampler.see(1);
  const Choice choice = sampler.choose(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  CHECK(choice.id == 3);
  CHECK(choice.logprob == doctest::Approx(3.0 - std::log(sum)));
  REQUIRE(choice.top.size() == 2);
  CHECK(choice.top[0].id == 1);
  CHECK(choice.top[1].id == 3);
  CHECK(choice.top[0].logprob == doctest::Approx(3.0 - std::log(sum)));
}

TEST_CASE("the same seed draws the same tokens, an absent one is made up and told") {
  SamplerOptions options{.temperature = 2.0};
  Sampler first(options, vocab);
  options.seed = first.seed();
  Sampler second(options, vocab);
  for (int i = 0; i < 100; ++i) CHECK(first.choose(logits).id == second.choose(logits).id);
  CHECK(Sampler({}, vocab).seed() != Sampler({}, vocab).seed());
}

TEST_CASE("bad options and logits are named") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::pair<SamplerOptions, std::string>> bad = {
      {{.temperature = -1.0}, "temperature is -1,"},
      {{.temperature = nan}, "temperature is nan,"},
      {{.top_k = -1}, "top_k is -1,"},
      {{.top_p = 0.0}, "top_p is 0,"},
      {{.top_p = 1.5}, "top_p is 1.5,"},
      {{.top_p = nan}, "top_p is nan,"},
      {{.min_p = -0.1}, "min_p is -0.1,"},
      {{.min_p = nan}, "min_p is nan,"},
      {{.repetition_penalty = 0.0}, "repetition_penalty is 0,"},
      {{.logprobs = 7}, "logprobs is 7, from 0 to the vocabulary's 6"},
  };
  for (const auto& [options, message] : bad) {
    const std::string got = message_of([&] { Sampler(options, vocab); });
    CHECK_MESSAGE(got.starts_with(message), got);
  }
  Sampler sampler({.temperature = 1.0}, vocab);
  for (const double value : {nan, HUGE_VAL, -HUGE_VAL}) {
    std::vector<float> broken = logits;
    broken[4] = static_cast<float>(value);
    const std::string got = message_of([&] { sampler.choose(broken); });
    CHECK_MESSAGE(got.starts_with("the logit of token 4 is "), got);
  }
  CHECK(message_of([&] { sampler.choose(std::span(logits).first(5)); }) ==
        "sampler: 5 logits for a vocabulary of 6");
  CHECK(message_of([&] { sampler.see(6); }) == "sampler: token id 6 is outside the vocabulary of 6");
  Sampler overflowing({.repetition_penalty = 1e-38}, vocab);
  overflowing.see(5);
  std::vector<float> large = logits;
  large[5] = 50.0F;
  CHECK(message_of([&] {
          overflowing.choose(large);
        }).starts_with("repetition_penalty 1e-38 makes the logit of token 5 inf"));
}
