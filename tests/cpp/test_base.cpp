// Half precision, tensors, shapes, hashes and the thread pool.
#include "base/f16.h"
#include "base/memory.h"
#include "base/narrow.h"
#include "base/sha256.h"
#include "base/split_mix.h"
#include "base/threads.h"
#include "cpu/kernel_work.h"
#include "orion/error.h"
#include "orion/tensor.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

using namespace orion;

TEST_CASE("every half survives the way to float and back") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(half);
    if (std::isnan(value))
      CHECK(std::isnan(half_to_float(float_to_half(value))));
    else
      REQUIRE(float_to_half(value) == half);
  }
}

TEST_CASE("float to half rounds to nearest, ties to even") {
  // Between two neighbouring halves: the midpoint goes to the even one, anything past it up.
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto low = static_cast<std::uint16_t>(bits);
    const auto high = static_cast<std::uint16_t>(bits + 1);
    const float middle = (half_to_float(low) + half_to_float(high)) / 2;  // exact in float
    REQUIRE(float_to_half(middle) == (bits % 2 == 0 ? low : high));
    REQUIRE(float_to_half(std::nextafter(middle, 0.0F)) == low);
    REQUIRE(float_to_half(std::nextafter(middle, 1e9F)) == high);
  }
  CHECK(float_to_half(65519.996F) == 0x7bff);
  CHECK(float_to_half(65520.0F) == 0x7c00);
  CHECK(float_to_half(-1e30F) == 0xfc00);
}

TEST_CASE("shapes refuse what no tensor can have") {
  CHECK_THROWS_WITH_AS(Shape({1, 2, 3, 4, 5, 6}), "a shape has at most 5 axes", Error);
  CHECK_THROWS_WITH_AS(Shape({2, 0}), "axis 1 of a shape has size 0, sizes are at least 1", Error);
  CHECK_THROWS_AS(Shape({std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
  CHECK(Shape{}.size() == 1);
  CHECK(Shape({2, 3, 4}).stride(0) == 12);
  CHECK(str(Shape{3}) == "(3,)");
}

TEST_CASE("conversion saturates, rounds and keeps NaN out of ints") {
  Tensor from(TensorType{DType::fp32, {4}});
  const std::vector<float> values = {1e20F, -2.9F, std::numeric_limits<float>::quiet_NaN(), 0.1F};
  std::copy(values.begin(), values.end(), from.as<float>().begin());
  const Tensor ints = convert(from, DType::int32);
  CHECK(ints.at(0) == 2147483647);
  CHECK(ints.at(1) == -2);
  CHECK(ints.at(2) == 0);
  const Tensor halves = convert(from, DType::fp16);
  CHECK(halves.at(0) == std::numeric_limits<double>::infinity());
  CHECK(std::isnan(halves.at(2)));
  CHECK(convert(from, DType::boolean).at(3) == 1);
}

TEST_CASE("a weight is narrowed unless a number would become infinite") {
  const Tensor weight({DType::fp32, {3}});
  const std::span<float> values = weight.as<float>();
  values[0] = 65519.0F;
  values[1] = -std::numeric_limits<float>::infinity();
  CHECK(narrowed(weight, DType::fp16, "w", "").at(0) == 65504.0);
  CHECK(narrowed(weight, DType::fp32, "w", "").data() == weight.data());
  values[2] = -65520.0F;
  CHECK_THROWS_WITH_AS(narrowed(weight, DType::fp16, "w", "use fp32"),
                       "weight 'w': element 2 is -65520, beyond fp16's range; use fp32", Error);
}

TEST_CASE("memory is zeroed, aligned and writable to its last byte, from the heap or the system") {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{65}, (std::size_t{4} << 20) - 1,
                                  std::size_t{4} << 20, (std::size_t{6} << 20) + 1}) {
    INFO(bytes << " bytes");
    const std::shared_ptr<std::byte> memory = zeroed_memory(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.get()) % memory_alignment == 0);
    const std::span all(memory.get(), bytes);
    CHECK(std::ranges::all_of(all, [](std::byte b) { return b == std::byte{0}; }));
    std::ranges::fill(all, std::byte{1});
  }
  CHECK_THROWS_AS(zeroed_memory(SIZE_MAX), std::bad_alloc);
  CHECK_THROWS_AS(zeroed_memory(SIZE_MAX / 2), std::bad_alloc);
}

TEST_CASE("a split covers every index once, in whole grains") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const std::int64_t count : {0, 1, 7, 64, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
      pool.split(count, 8, [&](std::int64_t begin, std::int64_t end) {
        CHECK(begin % 8 == 0);
        for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      for (const auto& times : seen) REQUIRE(times == 1);
    }
  }
}

TEST_CASE("queues are emptied once, by whoever is free") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    const std::int64_t queues = cpu::queues_for(threads);
    const auto count = [&](std::int64_t queue) { return queue == 0 ? 40 : 3 * queue; };
    std::vector<std::array<std::atomic<int>, 40>> seen(static_cast<std::size_t>(queues));
    std::vector<std::atomic<int>> started(static_cast<std::size_t>(threads));
    std::atomic<int> last = 0, workers = 0;
    cpu::share_queues(
        pool, threads, count,
        [&](std::int64_t worker) {
          ++started[static_cast<std::size_t>(worker)];
          ++workers;
        },
        [&](std::int64_t worker, const cpu::Item& item, const std::optional<cpu::Item>& next) {
          CHECK(started[static_cast<std::size_t>(worker)] == 1);
          ++seen[static_cast<std::size_t>(item.queue)][static_cast<std::size_t>(item.index)];
          if (!next) ++last;
        });
    for (std::int64_t queue = 0; queue < queues; ++queue)
      for (std::int64_t i = 0; i < 40; ++i)
        REQUIRE(seen[static_cast<std::size_t>(queue)][static_cast<std::size_t>(i)] ==
                (i < count(queue) ? 1 : 0));
    CHECK(last == workers);
  }
}

TEST_CASE("an exception in a split reaches the caller and the pool goes on") {
  ThreadPool pool(3);
  CHECK_THROWS_AS(pool.split(30, 1,
                             [](std::int64_t begin, std::int64_t) {
                               if (begin > 0) fail("no");
                             }),
                  Error);
  std::atomic<std::int64_t> sum = 0;
  pool.split(30, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
  CHECK(sum == 30);
}

TEST_CASE("splits from several threads take turns, a split inside a split runs inline") {
  ThreadPool pool(2);
  std::atomic<std::int64_t> sum = 0;
  const auto work = [&] {
    for (int i = 0; i < 200; ++i)
      pool.split(4, 1, [&](std::int64_t begin, std::int64_t end) {
        pool.split(end - begin, 1, [&](std::int64_t b, std::int64_t e) { sum += e - b; });
      });
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(sum == 2 * 200 * 4);
}

TEST_CASE("sha-256") {
  CHECK(sha256_hex("") == "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855");
  CHECK(sha256_hex("abc") == "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
  const std::string million(1'000'000, 'a');
  const std::string expected = "CDC76E5C9914FB9281A1C7E284D73E67F1809A48A497200E046D39CCC7112CD0";
  CHECK(sha256_hex(million) == expected);
  Sha256 in_parts;
  for (std::size_t at = 0, part = 1; at < million.size(); at += part, part = part % 130 + 1)
    in_parts.update(std::string_view(million).substr(at, part));
  CHECK(in_parts.hex() == expected);
}

TEST_CASE("sha-256: this machine's instructions give what plain code gives") {
  std::vector<std::byte> bytes(7 * sha256_block_bytes + 1);
  std::uint64_t random = 5;
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(split_mix(random));
  for (std::size_t blocks = 0; blocks <= 7; ++blocks) {
    Sha256State fast{1, 2, 3, 4, 5, 6, 7, 0xffffffff};
    Sha256State plain = fast;
    sha256_blocks()(fast, bytes.data() + 1, blocks);
    sha256_blocks_portable(plain, bytes.data() + 1, blocks);
    CHECK(fast == plain);
  }
}
