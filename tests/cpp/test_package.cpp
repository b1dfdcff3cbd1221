// Packages: the same tokens as the checkpoint on every device, and every damage named.
#include "orion/package.h"

#include "ane/packed_program.h"
#include "base/file.h"
#include "base/sha256.h"
#include "error_message.h"
#include "model_samples.h"
#include "orion/generate.h"
#include "orion/mil.h"
#include "orion/ops.h"
#include "run/engine_model.h"
#include "temporary_directory.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace orion;
using namespace orion::test;
namespace fs = std::filesystem;

namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::string_view llama = R"({"model_type": "llama", "vocab_size": 64, "max_position_embeddings": 48,
  "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 6,
  "num_key_value_heads": 2})";
constexpr std::string_view gpt2 = R"({"model_type": "gpt2", "vocab_size": 64, "n_positions": 48, "n_embd": 48,
  "n_layer": 2, "n_head": 3})";

WeightSource source_of(const TensorMap& weights) {
  return [&weights](const std::string& name) { return weights.at(name); };
}

void write(const fs::path& directory, std::string_view config, const PackageOptions& options = {}) {
  const TensorMap weights = random_weights(configure(read_config(config)));
  write_package(directory, config, source_of(weights), options);
}

Ids tokens(const std::shared_ptr<TextModel>& model, std::size_t prompt) {
  Ids ids;
  for (std::size_t i = 0; i < prompt; ++i) ids.push_back(static_cast<std::int32_t>(7 * i % 64));
  Generation generation(model, {ids}, {.max_tokens = 6, .sampler = {}, .stop_tokens = {}});
  Ids given;
  while (!generation.done())
    for (const GeneratedToken& token : generation.step()) given.push_back(token.choice.id);
  return given;
}

void replace_in(const fs::path& file, std::string_view from, std::string_view to) {
  std::string text = read_file(file);
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  replace_file(file, text.replace(at, from.size(), to));
}

// Changes a file and writes its new size and hash into the manifest: what a hash cannot find.
void forge(const fs::path& package, std::string_view path, std::string_view from, std::string_view to) {
  const auto entry = [&] {
    const std::string content = read_file(package / path);
    return str(path, "\", \"bytes\": ", content.size(), ", \"sha256\": \"", sha256_hex(content));
  };
  const std::string before = entry();
  replace_in(package / path, from, to);
  replace_in(package / "manifest.json", before, entry());
}

void read_all(const fs::path& directory, std::string_view device = "cpu") {
  tokens(Package(directory).load(find_device(device)), 3);
}

}  // namespace

TEST_CASE("a package gives the tokens of its checkpoint") {
  for (const std::string_view config : {llama, gpt2}) {
    const Directory directory;
    const fs::path path = directory / "p";
    TensorMap weights = random_weights(configure(read_config(config)));
    Ids wanted[2];
    Device& cpu = find_device("cpu");
    {
      const auto model =
          std::make_shared<EngineModel>(configure(read_config(config)), source_of(weights),
                                        find_device("sim:macos26"), cpu, EngineUse::prefill_and_decode);
      wanted[0] = tokens(model, 5);
      wanted[1] = tokens(model, 40);
    }
    write_package(path, config, source_of(weights), {.profile = "macos26"});
    fs::rename(path, directory / "elsewhere");
    const Package package(directory / "elsewhere");
    CHECK(package.buckets() == std::vector<std::int64_t>{32, 64});
    CHECK(package.programs() == 12);
    for (const std::string_view device : {"sim:macos26", "cpu"}) {
      const auto model = package.load(find_device(device));
      CHECK(model->device() == device);
      CHECK(tokens(model, 5) == wanted[0]);
      CHECK(tokens(model, 40) == wanted[1]);
    }
  }
}

TEST_CASE("programs of a package are those of the checkpoint, and known to the engine") {
  const Directory directory;
  const ModelConfig config = configure(read_config(llama));
  write(directory / "p", llama, {.profile = "macos27", .buckets = {32}});
  const ane::LegalProgram legal =
      ane::legalize_program(segment(config, {.kind = SegmentKind::attention, .layer = 1, .tokens = 32}),
                            ane::find_profile("macos27"));
  CHECK(Package(directory / "p").read("programs/attention_1_32.mil") == mil::emit(legal.graph));
}

TEST_CASE("each tensor is stored once, whatever programs read it") {
  const Directory directory;
  const auto weight_bytes = [&](std::string_view name, std::vector<std::int64_t> buckets) {
    write(directory / name, llama, {.buckets = std::move(buckets)});
    std::uint64_t bytes = 0;
    const Package package(directory / name);
    for (const PackageFile& file : package.files())
      if (file.path.starts_with("weights/layer") && file.path.ends_with(".bin")) bytes += file.bytes;
    return bytes;
  };
  CHECK(weight_bytes("one", {32}) == weight_bytes("three", {16, 32, 64}));
  const weights::WeightFile layer(directory / "three" / "weights/layer_0.bin");
  CHECK(layer.chunks().size() == 9 + 7);  // and the powers of the products' rows
}

TEST_CASE("prompts longer than the largest bucket go on in the decode programs") {
  const Directory directory;
  write(directory / "short", llama, {.buckets = {8}});
  write(directory / "long", llama, {.buckets = {64}});
  Device& cpu = find_device("cpu");
  CHECK(tokens(Package(directory / "short").load(cpu), 40) ==
        tokens(Package(directory / "long").load(cpu), 40));
}

TEST_CASE("a strict package runs on every engine, another on its own") {
  const Directory directory;
  write(directory / "strict", llama, {.buckets = {32}});
  for (const std::string_view profile : {"paper-m4-macos15", "macos26", "macos27", "strict"})
    read_all(directory / "strict", str("sim:", profile));
  write(directory / "macos26", llama, {.profile = "macos26", .buckets = {32}});
  const std::string refused = message_of([&] { read_all(directory / "macos26", "sim:strict"); });
  CHECK(refused.find("made for profile 'macos26', on sim:strict: ") != std::string::npos);
  CHECK(refused.find("concat-rejected (strict): concat") != std::string::npos);
  const std::string input = message_of([&] { read_all(directory / "strict", "sim:strict,update=input"); });
  CHECK(input.find("update=input: the program has its weights inside") != std::string::npos);
}

TEST_CASE("damage is named before anything runs") {
  const auto change = [](std::string_view file, std::string_view from, std::string_view to) {
    return [=](const fs::path& p) { replace_in(p / file, from, to); };
  };
  const auto forged = [](std::string_view file, std::string_view from, std::string_view to) {
    return [=](const fs::path& p) { forge(p, file, from, to); };
  };
  struct Case {
    std::function<void(const fs::path&)> damage;
    std::string_view message;
  };
  const Case cases[] = {
      {[](const fs::path& p) { fs::remove(p / "manifest.json"); }, "no package (it has no manifest.json)"},
      {[](const fs::path& p) { fs::resize_file(p / "manifest.json", 99); }, "manifest.json: not JSON: line"},
      {change("manifest.json", "\"version\": 1", "\"version\": 2"),
       "the package has version 2, this Orion reads version 1; compile the model again"},
      {change("manifest.json", "orion package", "other package"), "manifest.json: no manifest of a package"},
      {change("manifest.json", "\"profile\"", "\"speed\": 1, \"profile\""),
       "manifest.json: 'speed' is not known"},
      {change("manifest.json", "\"columns\": 32", "\"columns\": 33"), "manifest.json: "},
      {change("manifest.json", "\"layer\": 1", "\"layer\": 5"),
       "no program projection of layer 1 with 16 columns"},
      {change("manifest.json", "\"text\": \"programs/projection_0_16.mil", "\"text\": \"../../secret.mil"),
       "names the file '../../secret.mil' and does not list it"},
      {change("manifest.json", "{\"path\": \"weights/host.bin\"", "{\"path\": \"../host.bin\""),
       "is \"../host.bin\", the path of a file in the package is needed"},
      {change("manifest.json", "{\"path\": \"weights/host.bin\"", "{\"path\": \"/etc/passwd\""),
       "is \"/etc/passwd\", the path of a file in the package is needed"},
      {change("manifest.json", "\"name\": \"x\"", "\"name\": \"y\""),
       "input 'x', which must be described once"},
      {change("manifest.json", "\"source\": \"x\"", "\"source\": \"y\""),
       "stands for 'y', which is not there"},
      {change("manifest.json", "\"name\": \"q\", \"source\": \"q\"",
              "\"name\": \"q\", \"source\": \"q\", \"axis\": 1, \"begin\": 40, \"count\": 30"),
       "elements 40 to 70 of axis 1 are no share of fp16 (1, 48, 1, 16)"},
      {change("manifest.json", "\"name\": \"q\", \"source\": \"q\"",
              "\"name\": \"q\", \"source\": \"q\", \"axis\": 1, \"begin\": 0, \"count\": 30"),
       "the ports of 'q' hold 30 of 48"},
      {change("manifest.json", "        \"model.layers.0.input_layernorm.weight\"",
              "        \"model.layers.0.self_attn.q_proj.weight\""),
       "weight 'model.layers.0.self_attn.q_proj.weight' is read as fp16 (1, 48, 1, 1) and as fp16 (48, 48, "
       "1, 1)"},
      {change("manifest.json", "        \"model.layers.0.input_layernorm.weight\"", "        \"nothing\""),
       "no weight 'nothing'"},
      {[](const fs::path& p) { fs::remove(p / "weights/layer_1.bin"); }, "weights/layer_1.bin: missing: "},
      {[](const fs::path& p) { fs::resize_file(p / "weights/host.bin", 1000); },
       "weights/host.bin: 1000 bytes, "},
      {change("programs/attention_0_32.mil", "fp16", "fp32"),
       "programs/attention_0_32.mil: is not what was written (SHA-256 differs)"},
      {change("weights/layer_0.bin.names", "q_proj", "p_proj"), "layer_0.bin.names: is not what was written"},
      {change("config.json", "64", "65"), "config.json: is not what was written"},
      {forged("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
       "8 programs, 3 layers for 1 lengths of prompts have 12"},
      {forged("config.json", "\"hidden_size\": 48", "\"hidden_size\": 60"),
       "which does not hold fp16 (1, 60, 1, "},
      {forged("config.json", "\"vocab_size\": 64", "\"vocab_size\": 99"),
       "'model.embed_tokens.weight' is fp16 (64, 48), "},
      {forged("programs/projection_0_16.mil", "offset = uint64(64)", "offset = uint64(128)"),
       "at 128, @model_path/weights/weight.bin at 64 is where it is packed"},
      {forged("programs/projection_0_16.mil", "@model_path/weights/weight.bin", "/etc/passwd"),
       "from /etc/passwd"},
      {forged("programs/projection_0_16.mil", "program(1.3)", "program(1.3"), "projection_0_16.mil"},
      {forged("weights/layer_0.bin.names", "input_layernorm", "output_layernorm"),
       "no weight 'model.layers.0.input_layernorm.weight'"},
  };
  const Directory directory;
  write(directory / "whole", llama, {.buckets = {32}});
  read_all(directory / "whole");
  for (const Case& c : cases) {
    const fs::path damaged = directory / "damaged";
    fs::copy(directory / "whole", damaged, fs::copy_options::recursive);
    c.damage(damaged);
    const std::string message = message_of([&] { read_all(damaged); });
    CHECK_MESSAGE(message.find(c.message) != std::string::npos, c.message, " / ", message);
    fs::remove_all(damaged);
  }
}

TEST_CASE("only packages are replaced, whole or not at all") {
  const Directory directory;
  const fs::path path = directory / "p";
  write(path, llama, {.buckets = {32}, .files = {{"tokenizer.json", "{}"}}});
  CHECK(Package(path).read("tokenizer.json") == "{}");
  const auto again = [&](bool replace) {
    return message_of([&] { write(path, gpt2, {.buckets = {32}, .replace = replace}); });
  };
  CHECK(again(false).find("holds a package already (--force replaces it)") != std::string::npos);
  replace_file(path / "notes.txt", "mine");
  CHECK(again(true).find("holds 'notes.txt', which is no part of the package") != std::string::npos);
  fs::remove(path / "notes.txt");
  CHECK(again(true) == "no error");
  CHECK(Package(path).config().model_type == "gpt2");
  CHECK(!fs::exists(path / "tokenizer.json"));
  fs::create_directory(directory / "home");
  replace_file(directory / "home" / "notes.txt", "mine");
  CHECK(message_of([&] {
          write(directory / "home", llama, {.replace = true});
        }).find("holds files and is no package") != std::string::npos);
  CHECK(message_of([&] { write(directory / "no" / "p", llama); }).find("does not exist") !=
        std::string::npos);
  CHECK(directory.files() == 2);
}

TEST_CASE("an error while writing leaves nothing") {
  const Directory directory;
  const auto failing = [&](const PackageOptions& options) {
    return message_of([&] { write(directory / "p", llama, options); });
  };
  CHECK(failing({.progress = [](std::size_t, std::size_t) { fail("enough"); }}) == "enough");
  CHECK(failing({.profile = "macos99"}).find("unknown profile 'macos99'") != std::string::npos);
  CHECK(failing({.buckets = {0}}) == "package: prompts in 0 columns, from 1 to 16384 are possible");
  CHECK(failing({.buckets = {8, 8}}) == "package: prompts in 8 columns twice");
  CHECK(failing({.files = {{"../x", ""}}}) == "package: a file cannot be called '../x'");
  CHECK(failing({.files = {{"config.json", ""}}}) == "package: a file cannot be called 'config.json'");
  CHECK(directory.files() == 0);
}

TEST_CASE("a program whose output is split is opened as it was packed") {
  Graph graph;
  const Value x = graph.input("x", {DType::fp16, {1, 8, 1, 20}});
  const Value w = graph.weight("w", {DType::fp16, {20000, 8, 1, 1}});
  graph.output("y", ops::conv(x, w));
  const ane::LegalProgram legal = ane::legalize_program(graph, ane::find_profile("strict"));
  REQUIRE(legal.outputs.size() > 1);
  PackedProgram packed{
      .text = mil::emit(legal.graph), .weights = {}, .inputs = legal.inputs, .outputs = legal.outputs};
  TensorMap weights;
  Random random(1);
  for (const mil::BlobEntry& entry : mil::blob_entries(legal.graph)) {
    packed.weights.push_back(str("stored ", entry.name));
    const Tensor value(entry.type);
    for (std::uint16_t& bits : value.as<std::uint16_t>())
      bits = static_cast<std::uint16_t>(0x2c00U + random.next() % 1024U);
    weights.emplace(packed.weights.back(), value);
  }
  Tensor results[2];
  for (int i = 0; i < 2; ++i) {
    Device& device = find_device(i == 0 ? "cpu" : "sim:strict");
    const auto program = device.open(packed, device.load(weights));
    REQUIRE(program->outputs().size() == 1);
    const Tensor input = program->buffer("x");
    const auto halves = input.as<std::uint16_t>();
    for (std::size_t j = 0; j < halves.size(); ++j) halves[j] = static_cast<std::uint16_t>(0x3800U + j % 7);
    program->run();
    results[i] = program->buffer("y").clone();
  }
  REQUIRE(results[0].shape() == Shape{1, 20000, 1, 20});
  for (std::int64_t i = 0; i < results[0].shape().size(); i += 997)
    CHECK(results[0].at(i) == doctest::Approx(results[1].at(i)).epsilon(0.01));
  CHECK(results[0].at(results[0].shape().size() - 1) != 0.0);
}
