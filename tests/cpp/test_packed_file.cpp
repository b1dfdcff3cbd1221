// Packed weights: written, mapped, read in place; and files that are wrong.
#include "base/file.h"
#include "error_message.h"
#include "kernel_bench.h"
#include "model_samples.h"
#include "orion/error.h"
#include "orion/packed_file.h"
#include "run/packed_layout.h"
#include "temporary_directory.h"

#include <doctest/doctest.h>

using namespace orion;
using namespace orion::test;

namespace {

constexpr std::string_view dtypes[] = {"fp32", "fp16", "bf16", "int8", "int4"};

WeightSource source_of(const TensorMap& weights) {
  return [&weights](const std::string& name) { return weights.at(name); };
}

std::filesystem::path written(const Directory& directory, const ModelConfig& config, std::string_view dtype) {
  const std::filesystem::path path = directory / str(config.model_type, '-', dtype);
  write_packed_file(path, config, source_of(random_weights(config)), dtype, "a test");
  return path;
}

LanguageModel model_of(const PackedFile& file, const ModelConfig& config) {
  return {config, file.weights(), file.precision().dtype, find_device("cpu")};
}

bool is_in(const Tensor& tensor, const PackedFile& file) {
  const auto lies_there = [&](const auto& item) { return item.second.content.data() == tensor.data(); };
  return std::ranges::any_of(file.weights().matrices, lies_there);
}

std::string refusal(const std::string& content) {
  return message_of(
      [&] { read_packed_layout(std::as_bytes(std::span(content.data(), content.size())), "f"); });
}

// The first of a file with this text in place of that one, which has the same length.
std::string altered(std::string content, std::string_view from, std::string_view to) {
  REQUIRE(from.size() == to.size());
  const std::size_t place = content.find(from);
  REQUIRE(place != std::string::npos);
  return content.replace(place, from.size(), to);
}

}  // namespace

TEST_CASE("packed file: logits of every model in every width are those of the weights themselves") {
  const Directory directory;
  const std::int32_t ids[] = {1, 5, 2, 40, 7};
  for (const ModelConfig& config : tiny_configs())
    for (const std::string_view dtype : dtypes) {
      INFO(config.model_type << ' ' << dtype);
      const PackedFile file(written(directory, config, dtype));
      CHECK(file.dtype() == dtype);
      CHECK(file.source() == "a test");
      file.verify();
      const TensorMap weights = random_weights(config);
      LanguageModel plain(config, source_of(weights), precision_from_name(dtype), find_device("cpu"));
      LanguageModel packed = model_of(file, config);
      CHECK(packed.logits(ids).identical(plain.logits(ids)));
      CHECK(packed.parameters() == plain.parameters());
    }
}

TEST_CASE("packed file: programs read the mapped file, and nothing is written there") {
  const Directory directory;
  const ModelConfig config = tiny_configs()[1];
  const PackedFile file(written(directory, config, "int8"));
  LanguageModel model = model_of(file, config);
  const PackedWeights used = model.packed();
  CHECK(used.matrices.size() == 2 * 7 + 1);
  for (const auto& [name, matrix] : used.matrices) CHECK(is_in(matrix.content, file));
  // A table of rows alone is plain, and read in place too.
  const Tensor& table = used.tensors.at("model.embed_tokens.weight");
  CHECK(table.data() == file.weights().tensors.at("model.embed_tokens.weight").data());
  const std::string message = message_of([&] { model.weights()->update({{"model.norm.weight", table}}); });
  CHECK(message == "weight 'model.norm.weight' is packed, so it does not change: load what it was made from");
}

TEST_CASE("packed weights: every instruction set packs the same bytes") {
  using namespace orion::cpu;
  const Floats w = random_floats(40 * 70, 1);
  for (const MatrixFormat format :
       {MatrixFormat::exact, MatrixFormat::bf16, MatrixFormat::int8, MatrixFormat::int4}) {
    std::vector<std::byte> first;
    on_every_isa([&] {
      Panels panels{nullptr, DType::fp16, 40, 70, format};
      std::vector<std::byte> memory(panels.bytes());
      panels.data = memory.data();
      pack_panels(shared_pool(), {w.data(), DType::fp32, 70, 1}, panels);
      if (first.empty()) first = memory;
      CHECK(first == memory);
    });
  }
}

TEST_CASE("packed weights: a matrix that is not what it says, and devices without panels") {
  Device& cpu = find_device("cpu");
  const Tensor bytes(TensorType{DType::boolean, {32 * 34 * 2}});
  const auto load = [&](const TensorType& type, const Tensor& content) {
    PackedWeights weights;
    weights.matrices["w"] = {type, MatrixFormat::int8, true, content};
    return message_of([&] { cpu.load_packed(weights); });
  };
  CHECK(load({DType::fp16, {32, 64}}, bytes) == "no error");
  CHECK(load({DType::fp16, {32, 65}}, bytes) ==
        "packed weight 'w', fp16 (32, 65) in int8: 2176 bytes, 3264 are needed");
  CHECK(load({DType::fp16, {1 << 20, 1 << 20}}, bytes) ==
        "packed weight 'w', fp16 (1048576, 1048576) in int8: 2176 bytes are too few");
  CHECK(load({DType::int32, {32, 64}}, bytes).find("a float matrix is needed") != std::string::npos);
  const TensorType shorter{DType::boolean, {32 * 34}};
  const Tensor shifted = Tensor::view(shorter, bytes.data() + 1);
  CHECK(load({DType::fp16, {32, 32}}, shifted).find("is not at a multiple of 64 bytes") != std::string::npos);
  const std::string other = message_of([] { find_device("sim:macos26").load_packed({}); });
  CHECK(other.find("reads no packed weights") != std::string::npos);
}

TEST_CASE("packed file: weights of another model") {
  const Directory directory;
  const std::vector<ModelConfig> configs = tiny_configs();
  const PackedFile file(written(directory, configs[1], "int8"));
  const auto message = [&](const ModelConfig& config) { return message_of([&] { model_of(file, config); }); };
  CHECK(message(configs[0]) == "no packed weight 'transformer.wte.weight', which is fp16 (67, 48)");
  ModelConfig smaller = configs[1];
  smaller.layers = 1;
  CHECK(message(smaller) == "21 packed weights, the model has 12");
  smaller = configs[1];
  smaller.inner = 16;
  CHECK(message(smaller).find("the model asks for fp16 (16, 48)") != std::string::npos);
}

TEST_CASE("packed file: what is wrong is named") {
  const Directory directory;
  const std::string whole = read_file(written(directory, tiny_configs()[1], "int4"));
  CHECK(refusal(whole) == "no error");
  CHECK(refusal("").find("no safetensors file") != std::string::npos);
  CHECK(refusal(whole.substr(0, 100)).find("cut off") != std::string::npos);
  CHECK(refusal(whole.substr(0, whole.size() - 1)).find("the file is cut off") != std::string::npos);
  CHECK(refusal(whole + "x") == "f: 1 bytes after the last tensor");
  const std::tuple<std::string_view, std::string_view, std::string_view> cases[] = {
      {"orion packed weights", "other packed weights", "no packed weights"},
      {R"("version": "1")", R"("version": "2")",
       "packed weights of version \"2\", this Orion reads version 1"},
      {R"("dtype": "int4")", R"("dtype": "int5")", "dtype 'int5'"},
      {R"(\"matrix\": \"int4\")", R"(\"matrix\": \"int2\")", "exact, bf16, int8 or int4 is needed"},
      {R"(\"order\": \"nk\")", R"(\"order\": \"xx\")", "nk or kn is needed"},
      {R"(\"shape\": [)", R"(\"shape\": {)", "f: tensors"},
      {R"("dtype": "U8")", R"("dtype": "I8")", "U8 is needed"},
      {R"("data_offsets": [0, )", R"("data_offsets": [1, )", "is needed"},
      {R"("__metadata__")", R"("__metadatA__")", "without metadata"},
  };
  for (const auto& [from, to, said] : cases) {
    INFO(to);
    const std::string message = refusal(altered(whole, from, to));
    CHECK(message.find(said) != std::string::npos);
  }
}

TEST_CASE("packed file: one bit of a tensor is noticed when it is looked for") {
  const Directory directory;
  const std::filesystem::path path = written(directory, tiny_configs()[1], "int8");
  std::string content = read_file(path);
  content[content.size() - 1] = static_cast<char>(content[content.size() - 1] ^ 1);
  replace_file(path, content);
  const PackedFile file(path);
  CHECK(message_of([&] { file.verify(); }).find("is not what was written (SHA-256 differs)") !=
        std::string::npos);
}

TEST_CASE("packed file: a weight that a width cannot hold leaves no file") {
  const Directory directory;
  const ModelConfig config = tiny_configs()[1];
  TensorMap weights = random_weights(config);
  weights.at("lm_head.weight").as<float>()[3] = 70000.0F;
  const std::filesystem::path path = directory / "f";
  CHECK(message_of([&] {
          write_packed_file(path, config, source_of(weights), "int8", "");
        }).find("'lm_head.weight': element 3 is 70000") != std::string::npos);
  CHECK(directory.files() == 0);
}
