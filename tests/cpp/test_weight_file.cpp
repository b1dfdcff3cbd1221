#include "base/file.h"
#include "mil/weight_names.h"
#include "orion/error.h"
#include "orion/weight_file.h"
#include "temporary_directory.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <algorithm>
#include <cstring>
#include <limits>
#include <thread>

namespace fs = std::filesystem;
using namespace orion;
using weights::BlobType;
using weights::Entry;

namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Three chunks: 3 bytes, 5 values of 3 bits, 1 float.
std::string sample(const Directory& directory) {
  const std::vector<std::byte> packed =
      weights::pack(BlobType::uint3, std::vector<std::uint8_t>{1, 2, 3, 7, 5});
  const std::vector<Entry> entries = {{"a", BlobType::uint8, {3}, bytes("abc")},
                                      {"b", BlobType::uint3, {5}, packed},
                                      {"c.weight", BlobType::fp32, {1, 1}, bytes("1234")}};
  CHECK(weights::write(directory / "w.bin", entries) == std::vector<std::uint64_t>{64, 192, 320});
  return read_file(directory / "w.bin");
}

template <class T>
std::string with(std::string file, std::size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
  return file;
}

std::string message(const std::string& file) {
  try {
    weights::read_chunks(bytes(file), "w.bin");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("weight file: what is written is read") {
  const Directory directory;
  sample(directory);
  const weights::WeightFile file(directory / "w.bin");
  REQUIRE(file.chunks().size() == 3);
  const weights::Chunk* b = file.find("b");
  REQUIRE(b != nullptr);
  CHECK(b == file.find(std::uint64_t{192}));
  CHECK(b->type == BlobType::uint3);
  CHECK(weights::unpack(b->type, b->elements, b->data) == std::vector<std::uint8_t>{1, 2, 3, 7, 5});
  CHECK(file.find("c.weight")->shape == std::vector<std::int64_t>{1, 1});
  CHECK(file.find("d") == nullptr);
  CHECK(file.find(std::uint64_t{65}) == nullptr);
}

TEST_CASE("weight file: every type packs and unpacks its whole range") {
  for (const BlobType type :
       {BlobType::uint1, BlobType::uint2, BlobType::uint3, BlobType::uint4, BlobType::uint6}) {
    std::vector<std::uint8_t> values;
    for (unsigned i = 0; i < 1U << weights::bits(type); ++i) values.push_back(static_cast<std::uint8_t>(i));
    values.resize(values.size() - 1);  // so that the last byte has unused bits
    CHECK(weights::unpack(type, values.size(), weights::pack(type, values)) == values);
    CHECK_THROWS_AS(weights::pack(type, std::vector{static_cast<std::uint8_t>(1U << weights::bits(type))}),
                    Error);
  }
  const std::vector<std::uint8_t> signed_values = {0xF8, 0xFF, 0, 7};
  CHECK(weights::unpack(BlobType::int4, 4, weights::pack(BlobType::int4, signed_values)) == signed_values);
  CHECK_THROWS_AS(weights::pack(BlobType::int4, std::vector<std::uint8_t>{8}), Error);
  CHECK_THROWS_AS(weights::pack(BlobType::int4, std::vector<std::uint8_t>{0xF7}), Error);
}

TEST_CASE("weight file: every damage is named") {
  const Directory directory;
  const std::string file = sample(directory);
  REQUIRE(message(file).empty());
  CHECK(mentions(message(with(file, 4, std::uint32_t{1})), "version 1"));
  CHECK(mentions(message(with(file, 0, std::uint32_t{2})), "2 chunks end at byte 258"));
  CHECK(mentions(message(with(file, 0, std::uint32_t{4})), "chunk 3 of 4"));
  CHECK(mentions(message(with(file, 192, std::uint32_t{7})), "sentinel"));
  CHECK(mentions(message(with(file, 68, std::uint32_t{18})), "type number 18"));
  CHECK(mentions(message(with(file, 68, std::uint32_t{0})), "type number 0"));
  CHECK(mentions(message(with(file, 72, std::uint64_t{1} << 40U)), "beyond the end"));
  CHECK(mentions(message(with(file, 72, std::numeric_limits<std::uint64_t>::max())), "beyond the end"));
  CHECK(mentions(message(with(file, 72, std::uint64_t{70})), "sentinel"));
  CHECK(mentions(message(with(file, 80, std::uint64_t{192})), "overlap"));
  CHECK(mentions(message(with(file, 88, std::uint64_t{1})), "no whole number of uint8"));
  CHECK(mentions(message(with(file, 216, std::uint64_t{8})), "no whole number of uint3"));
  CHECK(mentions(message(file + "x"), "the file has 389 bytes"));
}

TEST_CASE("weight file: no prefix of a file is accepted") {
  const Directory directory;
  const std::string file = sample(directory);
  for (std::size_t length = 0; length < file.size(); ++length)
    CHECK(!message(file.substr(0, length)).empty());
}

TEST_CASE("weight file: sizes that cannot be are refused") {
  const Directory directory;
  const fs::path path = directory / "w.bin";
  CHECK_THROWS_AS(weights::write(path, std::vector<Entry>{{"a", BlobType::fp16, {2}, bytes("abc")}}), Error);
  CHECK_THROWS_AS(weights::write(path, std::vector<Entry>{{"a", BlobType::uint1, {3}, bytes("\x08")}}),
                  Error);
  CHECK_THROWS_AS(weights::write(path, std::vector<Entry>{{"a", BlobType::uint8, {-1}, bytes("")}}), Error);
  const std::vector<std::int64_t> huge = {std::int64_t{1} << 62U, 4};
  CHECK_THROWS_AS(weights::element_count(huge), Error);
  CHECK_THROWS_AS(weights::layout(std::vector{std::numeric_limits<std::uint64_t>::max()}), Error);
  CHECK(directory.files() == 0);
}

TEST_CASE("weight file: names are all there, unique and printable, or absent") {
  const Directory directory;
  const fs::path path = directory / "w.bin";
  const auto write = [&](std::string_view first, std::string_view second) {
    weights::write(path, std::vector<Entry>{{std::string(first), BlobType::uint8, {1}, bytes("a")},
                                            {std::string(second), BlobType::uint8, {1}, bytes("b")}});
  };
  CHECK_THROWS_AS(write("a", "a"), Error);
  CHECK_THROWS_AS(write("a", ""), Error);
  CHECK_THROWS_AS(write("a", "b\tc"), Error);
  CHECK_THROWS_AS(write("a", "\xff"), Error);
  write("a", "b");
  CHECK(fs::exists(directory / "w.bin.names"));
  write("", "");
  CHECK(!fs::exists(directory / "w.bin.names"));
  CHECK(weights::WeightFile(path).chunks().front().name.empty());
}

TEST_CASE("weight file: names that disagree with the file are refused") {
  const Directory directory;
  sample(directory);
  const fs::path names = directory / "w.bin.names";
  const std::string good = read_file(names);
  CHECK(good == "64\tuint8\t3\ta\n192\tuint3\t5\tb\n320\tfp32\t1,1\tc.weight\n");
  for (const std::string_view bad :
       {"64\tuint8\t3\ta\n", "65\tuint8\t3\ta\n", "64\tint8\t3\ta\n", "64\tuint8\t4\ta\n", "64\tuint8\t3\t\n",
        "64\tuint8\t3\ta", "64\tuint8\n", "x\tuint8\t3\ta\n", "64\tuint8\t3\t\xff\n",
        "64\tuint8\t3\ta\n192\tuint3\t5\ta\n320\tfp32\t1\tc\n", "64\tuint8\t4611686018427387904,4\ta\n"}) {
    replace_file(names, bad);
    CHECK_THROWS_AS(weights::WeightFile(directory / "w.bin"), Error);
  }
  replace_file(names, good);
  CHECK(weights::WeightFile(directory / "w.bin").chunks()[2].name == "c.weight");
}

TEST_CASE("weight file: a patch changes its chunks and nothing else") {
  const Directory directory;
  const std::string before = sample(directory);
  const weights::WeightFile opened(directory / "w.bin");
  weights::patch(directory / "w.bin", std::string("a"), bytes("xyz"));
  std::string expected = before;
  expected.replace(128, 3, "xyz");
  CHECK(read_file(directory / "w.bin") == expected);
  CHECK(text(opened.find("a")->data) == "abc");  // what was opened before stays as it was
  const std::vector<weights::Change> both = {{std::uint64_t{64}, bytes("123")}, {"c.weight", bytes("5678")}};
  weights::patch(directory / "w.bin", both);
  const weights::WeightFile after(directory / "w.bin");
  CHECK(text(after.find("a")->data) == "123");
  CHECK(text(after.find("c.weight")->data) == "5678");
  CHECK(directory.files() == 2);
}

TEST_CASE("weight file: any of its chunks patched, in any order, make the file that would be written") {
  const std::vector<std::string> names = {"a", "b", "c", "d"};
  const std::vector<std::string> old = {"abc", std::string(70000, 'b'), "c", std::string(129, 'd')};
  const Directory directory;
  const auto write_as = [&](const std::string& file, const std::vector<std::string>& contents) {
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < names.size(); ++i)
      entries.push_back(
          {names[i], BlobType::uint8, {static_cast<std::int64_t>(contents[i].size())}, bytes(contents[i])});
    weights::write(directory / file, entries);
  };
  std::vector<std::size_t> order = {0, 1, 2, 3};
  do {
    for (std::size_t count = 0; count <= order.size(); ++count) {
      std::vector<std::string> contents = old;
      std::vector<weights::Change> changes;
      for (const std::size_t i : std::span(order).first(count)) {
        contents[i].assign(contents[i].size(), 'x');
        changes.push_back({names[i], bytes(contents[i])});
      }
      write_as("patched.bin", old);
      weights::patch(directory / "patched.bin", changes);
      write_as("written.bin", contents);
      CHECK(read_file(directory / "patched.bin") == read_file(directory / "written.bin"));
    }
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("weight file: a patch that cannot be leaves the file alone") {
  const Directory directory;
  const std::string before = sample(directory);
  const fs::path path = directory / "w.bin";
  CHECK_THROWS_WITH_AS(weights::patch(path, std::string("z"), bytes("xyz")),
                       doctest::Contains("no chunk 'z'"), Error);
  CHECK_THROWS_AS(weights::patch(path, std::uint64_t{128}, bytes("xyz")), Error);
  CHECK_THROWS_AS(weights::patch(path, std::string("a"), bytes("wxyz")), Error);
  CHECK_THROWS_AS(weights::patch(path, std::string("b"), bytes("\xff\xff")), Error);
  const std::vector<weights::Change> twice = {{"a", bytes("123")}, {std::uint64_t{64}, bytes("456")}};
  CHECK_THROWS_AS(weights::patch(path, twice), Error);
  CHECK_THROWS_AS(weights::patch(directory / "none.bin", std::string("a"), bytes("xyz")), Error);
  CHECK(read_file(path) == before);
  CHECK(directory.files() == 2);
}

TEST_CASE("weight file: patches by several threads add up") {
  const Directory directory;
  const fs::path path = directory / "w.bin";
  std::vector<std::string> names;
  std::vector<Entry> entries;
  for (char c = 'a'; c < 'i'; ++c) names.emplace_back(1, c);
  for (const std::string& name : names) entries.push_back({name, BlobType::uint8, {1}, bytes("-")});
  weights::write(path, entries);
  std::vector<std::thread> threads;
  for (const std::string& name : names)
    threads.emplace_back([&] { weights::patch(path, name, bytes(name)); });
  for (std::thread& thread : threads) thread.join();
  const weights::WeightFile file(path);
  for (const std::string& name : names) CHECK(text(file.find(name)->data) == name);
}

TEST_CASE("replaced file: a link is followed and the mode kept") {
  const Directory directory;
  replace_file(directory / "real", "old");
  fs::permissions(directory / "real", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink(directory / "real", directory / "link");
  replace_file(directory / "link", "new");
  CHECK(fs::is_symlink(directory / "link"));
  CHECK(read_file(directory / "real") == "new");
  CHECK(fs::status(directory / "real").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("replaced file: without commit the old content stays") {
  const Directory directory;
  replace_file(directory / "f", "old");
  {
    ReplacedFile file(directory / "f");
    file.write(bytes("new"));
  }
  CHECK(read_file(directory / "f") == "old");
  CHECK(directory.files() == 1);
  CHECK_THROWS_WITH_AS(replace_file(directory / "no/f", "x"), doctest::Contains("cannot create"), Error);
}

TEST_CASE("mapped file: only regular files, empty ones too") {
  const Directory directory;
  const fs::path pipe = directory / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(MappedFile{pipe}, doctest::Contains("not a regular file"), Error);
  CHECK_THROWS_WITH_AS(MappedFile{directory / ""}, doctest::Contains("not a regular file"), Error);
  CHECK_THROWS_WITH_AS(MappedFile{directory / "none"}, doctest::Contains("cannot open"), Error);
  replace_file(directory / "empty", "");
  CHECK(MappedFile(directory / "empty").bytes().empty());
}
