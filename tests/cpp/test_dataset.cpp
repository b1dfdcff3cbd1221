// Token files, the order of windows, and batches.
#include "base/file.h"
#include "base/sha256.h"
#include "orion/dataset.h"
#include "orion/error.h"
#include "run/permutation.h"
#include "temporary_directory.h"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

namespace fs = std::filesystem;
using namespace orion;
using doctest::Contains;

namespace {

using Ids = std::vector<std::int32_t>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// 0, 1, 2, ...: a window's ids tell where it is.
Ids counted(std::int32_t count) {
  Ids ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

std::string raw16(const Ids& ids) {
  return bytes_of(std::vector<std::uint16_t>(ids.begin(), ids.end()));
}

std::string llmc(std::int32_t magic, std::int32_t version, std::int32_t tokens) {
  std::vector<std::int32_t> header(256);
  std::copy_n(std::array{magic, version, tokens}.begin(), 3, header.begin());
  return bytes_of(header);
}

std::string orion_file(const fs::path& path, const Ids& ids, std::int64_t vocab) {
  TokenWriter writer(path, {.vocab = vocab, .separator = 1, .tokenizer = std::string(64, 'A')});
  writer.write(std::span(ids).first(1));
  writer.write(std::span(ids).subspan(1));
  writer.commit(3, 100);
  return read_file(path);
}

Ids all_of(const TokenFile& file) {
  Ids ids(static_cast<std::size_t>(file.size()));
  file.copy(0, ids);
  return ids;
}

std::shared_ptr<const TokenFile> counting_file(const Directory& directory, std::int32_t tokens) {
  replace_file(directory / "counted.bin", raw16(counted(tokens)));
  return std::make_shared<const TokenFile>(directory / "counted.bin");
}

Ids values(const Tensor& tensor) {
  const auto span = tensor.as<std::int32_t>();
  return {span.begin(), span.end()};
}

// The first id of each row, which in `counting_file` is where its window begins.
Ids starts(const Batch& batch) {
  const std::int64_t sequence = batch.ids.shape()[1];
  Ids first;
  for (std::int64_t row = 0; row < batch.ids.shape()[0]; ++row)
    first.push_back(static_cast<std::int32_t>(batch.ids.at(row * sequence)));
  return first;
}

void append(Ids& ids, const Ids& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

}  // namespace

TEST_CASE("the same tokens in every format") {
  const Directory directory;
  const Ids ids = {1, 403, 511, 0, 77};
  const std::vector<std::uint32_t> wide(ids.begin(), ids.end());
  struct Row {
    const char* name;
    std::string content;
    TokenFormat format;
    const char* kind;
    int width;
  };
  const Row rows[] = {
      {"a.bin", raw16(ids), TokenFormat::automatic, "raw", 2},
      {"a.u16", raw16(ids), TokenFormat::automatic, "raw", 2},
      {"a.u32", bytes_of(wide), TokenFormat::automatic, "raw", 4},
      {"a", raw16(ids), TokenFormat::u16, "raw", 2},
      {"b.bin", bytes_of(wide), TokenFormat::u32, "raw", 4},
      {"g.bin", llmc(20240520, 1, 5) + raw16(ids), TokenFormat::automatic, "llm.c", 2},
      {"g", llmc(20240520, 1, 5) + raw16(ids), TokenFormat::u16, "llm.c", 2},
      {"l.bin", llmc(20240801, 7, 5) + bytes_of(wide), TokenFormat::automatic, "llm.c", 4},
      {"o.bin", orion_file(directory / "o", ids, 65536), TokenFormat::automatic, "orion", 2},
      {"o.txt", orion_file(directory / "o", ids, 65537), TokenFormat::u32, "orion", 4},
  };
  for (const Row& row : rows) {
    CAPTURE(row.name);
    replace_file(directory / row.name, row.content);
    const TokenFile file(directory / row.name, row.format);
    CHECK(file.kind() == row.kind);
    CHECK(file.width() == row.width);
    CHECK(all_of(file) == ids);
    CHECK(file.at(2) == 511);
    CHECK(file.max_token() == 511);
    CHECK(file.hash() == sha256_hex(row.width == 2 ? raw16(ids) : bytes_of(wide)));
    CHECK(file.facts().has_value() == (std::string_view(row.kind) == "orion"));
  }
}

TEST_CASE("Orion's header says what it was told") {
  const Directory directory;
  const std::string content = orion_file(directory / "o.bin", {5, 6, 7}, 300);
  CHECK(content.size() == 256 + 6);
  const TokenFile file(directory / "o.bin");
  REQUIRE(file.facts());
  CHECK(file.facts()->vocab == 300);
  CHECK(file.facts()->separator == 1);
  CHECK(file.facts()->tokenizer == std::string(64, 'A'));
  CHECK(file.facts()->documents == 3);
  CHECK(file.facts()->text_bytes == 100);
}

TEST_CASE("files that are no token files") {
  const Directory directory;
  const std::string good = orion_file(directory / "good", counted(10), 300);
  const auto changed = [&](std::size_t at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    return bytes;
  };
  struct Row {
    std::string content;
    TokenFormat format;
    const char* message;
  };
  const Row rows[] = {
      {"", TokenFormat::automatic, "the file is empty"},
      {"abc", TokenFormat::u16, "3 bytes are no whole number of tokens of 2 bytes"},
      {"abcdef", TokenFormat::u32, "6 bytes are no whole number of tokens of 4 bytes"},
      {"abcd", TokenFormat::automatic, "the name does not tell whether tokens are uint16"},
      {llmc(20240520, 2, 1) + "ab", TokenFormat::automatic,
       "version 2 of llm.c's files with magic 20240520, 1 is"},
      {llmc(20240520, 1, 2) + "ab", TokenFormat::automatic,
       "says 2 tokens of 2 bytes, and 2 bytes follow it"},
      {llmc(20240520, 1, -1) + "ab", TokenFormat::automatic, "says 4294967295 tokens of 2 bytes"},
      {llmc(20240520, 1, 0), TokenFormat::automatic, "no tokens after the header"},
      {llmc(20240520, 1, 1).substr(0, 100), TokenFormat::automatic,
       "ends after 100 bytes, inside llm.c's header"},
      {llmc(20240801, 7, 1) + "abcd", TokenFormat::u16, "header says tokens of 4 bytes, 2 were asked for"},
      {good, TokenFormat::u32, "header says tokens of 2 bytes, 4 were asked for"},
      {good.substr(0, 255), TokenFormat::automatic, "ends after 255 bytes, inside Orion's header of 256"},
      {good.substr(0, 270), TokenFormat::automatic, "says 10 tokens of 2 bytes, and 14 bytes follow it"},
      {good + "ab", TokenFormat::automatic, "says 10 tokens of 2 bytes, and 22 bytes follow it"},
      {changed(8), TokenFormat::automatic, "version 0 of Orion's token files, 1 is known"},
      {changed(12), TokenFormat::automatic, "the header is damaged"},
      {changed(24), TokenFormat::automatic, "the header is damaged"},
      {changed(255), TokenFormat::automatic, "the header is damaged"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.message);
    replace_file(directory / "file", row.content);
    CHECK_THROWS_WITH_AS(TokenFile(directory / "file", row.format), Contains(row.message), Error);
    CHECK_THROWS_WITH_AS(TokenFile(directory / "file", row.format), Contains("file: "), Error);
  }
  CHECK_THROWS_WITH_AS(TokenFile(directory / "none.bin"), Contains("none.bin: cannot open"), Error);
  CHECK_THROWS_WITH_AS(token_format("i8"), "token format 'i8': auto, u16 or u32 is needed", Error);
  replace_file(directory / "file", changed(256));
  const TokenFile damaged(directory / "file");
  CHECK_THROWS_WITH_AS(damaged.max_token(), Contains("the tokens are damaged"), Error);
}

TEST_CASE("a raw file may begin like llm.c's when its width is given") {
  const Directory directory;
  replace_file(directory / "a.bin", llmc(20240520, 1, 1));
  CHECK_THROWS_AS(TokenFile(directory / "a.bin"), Error);
  CHECK(TokenFile(directory / "a.bin", TokenFormat::u16).size() == 512);
}

TEST_CASE("ids are checked against the vocabulary, naming the first that is outside") {
  const Directory directory;
  Ids ids(1 << 19, 3);  // more than is scanned at a time
  ids[400000] = 300;
  ids[500000] = 301;
  replace_file(directory / "a.bin", raw16(ids));
  const auto file = std::make_shared<const TokenFile>(directory / "a.bin");
  CHECK(file->max_token() == 301);
  CHECK_NOTHROW(Dataset(file, {.vocab = 302}));
  CHECK_THROWS_WITH_AS(Dataset(file, {.vocab = 300}),
                       Contains("a.bin: token 400000 has id 300, outside the vocabulary of 300"), Error);

  replace_file(directory / "b.u32", bytes_of(std::vector<std::uint32_t>{1, 2, 0x80000000U}));
  const TokenFile wide(directory / "b.u32");
  CHECK_THROWS_WITH_AS(wide.max_token(), Contains("token 2 has id 2147483648, and ids are below 2^31"),
                       Error);
  CHECK_THROWS_WITH_AS(wide.at(2), Contains("token 2 has id 2147483648"), Error);
  CHECK(wide.at(1) == 2);
}

TEST_CASE("tokens that do not exist") {
  const Directory directory;
  const auto file = counting_file(directory, 10);
  Ids two(2);
  CHECK_THROWS_AS(file->at(-1), Error);
  CHECK_THROWS_AS(file->at(10), Error);
  CHECK_THROWS_AS(file->copy(9, two), Error);
  CHECK_THROWS_AS(file->copy(std::numeric_limits<std::int64_t>::max(), two), Error);
  CHECK_NOTHROW(file->copy(8, two));
}

TEST_CASE("a file that changes under its reader") {
  const Directory directory;
  const auto file = counting_file(directory, 100);
  Dataset dataset(file, {.sequence = 4, .vocab = 100, .shuffle = false});
  SUBCASE("shrinks") {
    fs::resize_file(directory / "counted.bin", 150);
    CHECK_THROWS_WITH_AS(dataset.next(1), Contains("the file is shorter than when it was opened"), Error);
    CHECK(dataset.cursor() == DataCursor{});
  }
  SUBCASE("is replaced") {
    replace_file(directory / "counted.bin", "x");
    CHECK(starts(dataset.next(2)) == Ids{0, 4});
  }
  SUBCASE("is written into") {
    const int descriptor = ::open((directory / "counted.bin").c_str(), O_WRONLY);
    REQUIRE(::pwrite(descriptor, "\xff\xff", 2, 6) == 2);
    ::close(descriptor);
    CHECK_THROWS_WITH_AS(dataset.next(1), Contains("has changed since it was opened, and now holds id 65535"),
                         Error);
  }
}

TEST_CASE("a writer leaves all or nothing") {
  const Directory directory;
  const fs::path path = directory / "o.bin";
  {
    TokenWriter writer(path, {.vocab = 10});
    writer.write(Ids{1, 2});
    CHECK_THROWS_WITH_AS(writer.write(Ids{3, 10}),
                         Contains("token 3 has id 10, outside the vocabulary of 10"), Error);
    CHECK_THROWS_AS(writer.write(Ids{-1}), Error);
    CHECK(writer.size() == 2);
  }
  CHECK(directory.files() == 0);
  TokenWriter empty(path, {.vocab = 10});
  CHECK_THROWS_WITH_AS(empty.commit(0, 0), "no tokens to write: the text is empty", Error);
  empty.discard();
  CHECK(directory.files() == 0);
  CHECK_THROWS_AS(empty.write(Ids{1}), Error);
  CHECK_THROWS_AS(TokenWriter(path, {.vocab = 0}), Error);
  CHECK_THROWS_AS(TokenWriter(path, {.vocab = (std::int64_t{1} << 31) + 1}), Error);
  CHECK_THROWS_AS(TokenWriter(path, {.vocab = 10, .separator = 10}), Error);
  CHECK_THROWS_AS(TokenWriter(path, {.vocab = 10, .tokenizer = "abc"}), Error);
  CHECK(directory.files() == 0);
}

TEST_CASE("a permutation is a bijection, the same everywhere") {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 16, 17, 100, 1023, 1024, 1025, 4097}) {
    std::set<std::int64_t> seen;
    const Permutation order(size, 7, 3);
    for (std::int64_t i = 0; i < size; ++i) seen.insert(order(i));
    CHECK(static_cast<std::int64_t>(seen.size()) == size);
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == size - 1);
  }
  // Computed by another implementation, with numbers of any size.
  const auto first = [](std::int64_t size, std::uint64_t seed, std::uint64_t round) {
    const Permutation order(size, seed, round);
    std::vector<std::int64_t> places;
    for (std::int64_t i = 0; i < 8; ++i) places.push_back(order(i));
    return places;
  };
  CHECK(first(8, 0, 0) == std::vector<std::int64_t>{2, 7, 0, 5, 1, 6, 3, 4});
  CHECK(first(1000, 42, 5) == std::vector<std::int64_t>{353, 139, 462, 820, 221, 856, 51, 23});
  CHECK(first(std::int64_t{1} << 62, 1, 0)[1] == 4258073919663043946);
  CHECK(first(1000, 42, 5) != first(1000, 42, 6));
  CHECK(first(1000, 42, 5) != first(1000, 43, 5));
}

TEST_CASE("every place gets every window about equally often") {
  constexpr std::int64_t size = 10;
  constexpr int rounds = 10000;
  int counts[size][size] = {};
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const Permutation order(size, 3, round);
    for (std::int64_t i = 0; i < size; ++i) ++counts[i][order(i)];
  }
  for (const auto& row : counts)
    for (const int count : row) CHECK(std::abs(count - 1000) < 150);  // five deviations of 30
}

TEST_CASE("windows follow each other and targets are ids shifted by one") {
  const Directory directory;
  const auto file = counting_file(directory, 24);  // 5 windows of 4 + 1, and 3 left over
  Dataset dataset(file, {.sequence = 4, .shuffle = false});
  CHECK(dataset.windows() == 5);
  const Batch batch = dataset.next(2);
  CHECK(batch.ids.type() == TensorType{DType::int32, {2, 4}});
  CHECK(values(batch.ids) == Ids{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(values(batch.targets) == Ids{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(starts(dataset.next(4)) == Ids{8, 12, 16, 0});
  CHECK(dataset.cursor() == DataCursor{1, 1});
  CHECK(starts(dataset.next(12)) == Ids{4, 8, 12, 16, 0, 4, 8, 12, 16, 0, 4, 8});
  CHECK(dataset.cursor() == DataCursor{3, 3});
}

TEST_CASE("an epoch has every window once, each epoch in an order of its own") {
  const Directory directory;
  const auto file = counting_file(directory, 4 * 50 + 1);
  Dataset dataset(file, {.sequence = 4, .seed = 9});
  std::set<Ids> orders;
  for (int epoch = 0; epoch < 4; ++epoch) {
    Ids order;
    for (int step = 0; step < 10; ++step) append(order, starts(dataset.next(5)));
    orders.insert(order);
    std::ranges::sort(order);
    for (std::size_t i = 0; i < 50; ++i) CHECK(order[i] == static_cast<std::int32_t>(4 * i));
  }
  CHECK(orders.size() == 4);
  CHECK(dataset.cursor() == DataCursor{4, 0});
}

TEST_CASE("ranks together see the batches of one") {
  const Directory directory;
  const auto file = counting_file(directory, 4 * 23 + 2);
  for (const int ranks : {1, 2, 3, 4}) {
    Dataset whole(file, {.sequence = 4, .seed = 5});
    std::vector<Dataset> parts;
    for (int rank = 0; rank < ranks; ++rank)
      parts.emplace_back(file, DatasetOptions{.sequence = 4, .seed = 5, .rank = rank, .ranks = ranks});
    for (int step = 0; step < 20; ++step) {
      Ids together;
      for (Dataset& part : parts) append(together, values(part.next(12 / ranks).ids));
      CHECK(together == values(whole.next(12).ids));
      for (const Dataset& part : parts) CHECK(part.cursor() == whole.cursor());
    }
  }
}

TEST_CASE("a cursor restores everything") {
  const Directory directory;
  const auto file = counting_file(directory, 4 * 23 + 2);
  const DatasetOptions options{.sequence = 4, .seed = 5, .validation = 0.1};
  Dataset first(file, options);
  for (int step = 0; step < 5; ++step) first.next(7);
  Dataset second(file, options);
  second.seek(first.cursor());
  CHECK(first.cursor().epoch == 1);
  CHECK(first.hash() == second.hash());
  for (int step = 0; step < 9; ++step) {
    const Batch a = first.next(7), b = second.next(7);
    CHECK(a.ids.identical(b.ids));
    CHECK(a.targets.identical(b.targets));
  }
  for (const DataCursor wrong : {DataCursor{-1, 0}, DataCursor{0, -1}, DataCursor{0, 21},
                                 DataCursor{std::numeric_limits<std::int64_t>::max(), 0}})
    CHECK_THROWS_WITH_AS(second.seek(wrong), Contains("does not exist in"), Error);
  CHECK(first.cursor() == second.cursor());
}

TEST_CASE("a dataset's hash tells what a cursor means") {
  const Directory directory;
  const auto file = counting_file(directory, 400);
  const auto hash = [&](const DatasetOptions& options) { return Dataset(file, options).hash(); };
  const std::string plain = hash({.sequence = 4});
  CHECK(plain == hash({.sequence = 4, .vocab = 1000, .rank = 1, .ranks = 2}));
  CHECK(plain != hash({.sequence = 5}));
  CHECK(plain != hash({.sequence = 4, .seed = 1}));
  CHECK(plain != hash({.sequence = 4, .validation = 0.5}));
  CHECK(plain != hash({.sequence = 4, .shuffle = false}));
  replace_file(directory / "other.bin", raw16(Ids(400, 7)));
  CHECK(plain != Dataset(std::make_shared<const TokenFile>(directory / "other.bin"), {.sequence = 4}).hash());
}

TEST_CASE("validation windows are the last ones, and never trained on") {
  const Directory directory;
  const auto file = counting_file(directory, 4 * 20 + 1);
  Dataset dataset(file, {.sequence = 4, .validation = 0.25});
  CHECK(dataset.windows() == 15);
  CHECK(dataset.validation_windows() == 5);
  CHECK(starts(dataset.validation(0, 5)) == Ids{60, 64, 68, 72, 76});
  CHECK(starts(dataset.validation(3, 2)) == Ids{72, 76});
  Ids order = starts(dataset.next(15));
  CHECK(*std::ranges::max_element(order) == 56);
  for (const auto& [begin, batch] : {std::pair(0, 6), std::pair(-1, 1), std::pair(5, 1), std::pair(0, 0)})
    CHECK_THROWS_WITH_AS(dataset.validation(begin, batch), Contains("of 5 do not exist"), Error);
}

TEST_CASE("options and tensors that make no sense") {
  const Directory directory;
  const auto file = counting_file(directory, 41);
  struct Row {
    DatasetOptions options;
    const char* message;
  };
  const Row rows[] = {
      {{.sequence = 0}, "sequence is 0, at least 1 is needed"},
      {{.sequence = 41}, "41 tokens are fewer than one window of sequence 41 + 1"},
      {{.sequence = 4, .validation = 1.0}, "validation is 1, a share from 0 to below 1"},
      {{.sequence = 4, .validation = std::numeric_limits<double>::quiet_NaN()}, "validation is nan"},
      {{.sequence = 4, .validation = 0.01}, "a validation share of 0.01 is 0 of 10 windows"},
      {{.sequence = 4, .validation = 0.99}, "a validation share of 0.99 is 10 of 10 windows"},
      {{.sequence = 4, .vocab = -1}, "vocab is -1"},
      {{.sequence = 4, .rank = 2, .ranks = 2}, "rank 2 of 2"},
      {{.sequence = 4, .rank = -1}, "rank -1 of 1"},
      {{.sequence = 4, .ranks = 0}, "rank 0 of 0"},
  };
  for (const Row& row : rows) CHECK_THROWS_WITH_AS(Dataset(file, row.options), Contains(row.message), Error);
  CHECK(Dataset(file, {.sequence = 40}).windows() == 1);

  Dataset dataset(file, {.sequence = 4});
  CHECK_THROWS_WITH_AS(dataset.next(0), "dataset: a batch of 0, at least 1 is needed", Error);
  const Tensor right(TensorType{DType::int32, {2, 4}});
  for (const TensorType& type : {TensorType{DType::int32, {2, 5}}, TensorType{DType::fp32, {2, 4}},
                                 TensorType{DType::int32, {8}}, TensorType{DType::int32, {3, 4}}})
    CHECK_THROWS_WITH_AS(dataset.next_into(right, Tensor(type)), Contains("int32 (B, 4) is needed"), Error);
  CHECK(dataset.cursor() == DataCursor{});
}

TEST_CASE("a vocabulary that the header states is held to without being told") {
  const Directory directory;
  orion_file(directory / "o.bin", counted(20), 20);
  const auto file = std::make_shared<const TokenFile>(directory / "o.bin");
  CHECK_NOTHROW(Dataset(file, {.sequence = 4}));
  CHECK_NOTHROW(Dataset(file, {.sequence = 4, .vocab = 32}));
  CHECK_THROWS_WITH_AS(Dataset(file, {.sequence = 4, .vocab = 19}), Contains("token 19 has id 19"), Error);
}
