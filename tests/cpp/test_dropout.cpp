// Masks of dropout: the same wherever an element is computed, and other ones everywhere else.
#include "run/dropout.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace orion;

namespace {

constexpr std::int64_t windows = 4, sequence = 8, channels = 32;

Tensor drawn(const Dropout& dropout, const MaskPlace& place, std::int64_t batch = windows,
             DType dtype = DType::fp32, bool columns = false) {
  const std::int64_t tokens = batch * sequence;
  const Tensor mask({dtype, columns ? Shape{1, channels, 1, tokens} : Shape{tokens, channels}});
  draw_mask(mask, batch, dropout, place);
  return mask;
}

std::int64_t zeros(const Tensor& mask) {
  return std::ranges::count(mask.as<float>(), 0.0F);
}

}  // namespace

TEST_CASE("a mask has its share of zeros and keeps the mean") {
  const double expected = 1024 * 0.25, deviation = std::sqrt(1024 * 0.25 * 0.75);
  for (std::int64_t step = 0; step < 20; ++step) {
    const Tensor mask = drawn({.probability = 0.25}, {.step = step});
    CHECK(std::abs(static_cast<double>(zeros(mask)) - expected) < 4.0 * deviation);
    for (const float value : mask.as<float>()) CHECK((value == 0.0F || value == 4.0F / 3.0F));
  }
  CHECK(zeros(drawn({.probability = 0.0}, {})) == 0);
}

TEST_CASE("a mask depends on seed, step, window and module") {
  const Dropout dropout{.probability = 0.5, .seed = 7};
  const Tensor mask = drawn(dropout, {.step = 3, .module = 2});
  CHECK(mask.identical(drawn(dropout, {.step = 3, .module = 2})));
  CHECK(!mask.identical(drawn({.probability = 0.5, .seed = 8}, {.step = 3, .module = 2})));
  CHECK(!mask.identical(drawn(dropout, {.step = 4, .module = 2})));
  CHECK(!mask.identical(drawn(dropout, {.step = 3, .module = 3})));
  CHECK(!mask.identical(drawn(dropout, {.step = 3, .micro_batch = 1, .module = 2})));
  const auto values = mask.as<float>();
  const auto half = values.size() / 2;
  CHECK(!std::ranges::equal(values.first(half), values.last(half)));
}

TEST_CASE("a window's mask does not depend on how windows are shared out, nor on the layout") {
  const Dropout alone{.probability = 0.5, .seed = 1};
  const Tensor whole = drawn(alone, {.step = 5});
  const auto part = [&](std::int64_t process, std::int64_t processes, std::int64_t micro_batch) {
    const Dropout dropout{.probability = 0.5, .seed = 1, .process = process, .processes = processes};
    return drawn(dropout, {.step = 5, .micro_batch = micro_batch}, 2);
  };
  const auto values = whole.as<float>();
  for (const Tensor& second : {part(1, 2, 0), part(0, 1, 1)})
    CHECK(std::ranges::equal(second.as<float>(), values.last(values.size() / 2)));
  const Tensor columns = drawn(alone, {.step = 5}, windows, DType::fp16, true);
  for (std::int64_t token = 0; token < windows * sequence; ++token)
    for (std::int64_t channel = 0; channel < channels; ++channel)
      REQUIRE(columns.at(channel * windows * sequence + token) == whole.at(token * channels + channel));
  open_mask(whole);
  open_mask(columns);
  CHECK(std::ranges::count(whole.as<float>(), 1.0F) == whole.shape().size());
  CHECK(columns.at(5) == 1.0);
}
