// A model as a package, as an app would use it: written once, then opened without the checkpoint.
#include <orion/generate.h>
#include <orion/package.h>

#include <cstdio>
#include <filesystem>

namespace {

using namespace orion;

constexpr std::string_view config =
    R"({"model_type": "llama", "vocab_size": 32, "max_position_embeddings": 64,
  "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2})";

// Stands for a checkpoint.
void write(const std::filesystem::path& directory) {
  TensorMap weights;
  Random random(1);
  for (const Port& port : model_weights(configure(read_config(config)), DType::fp32)) {
    const Tensor value(port.type);
    for (float& x : value.as<float>()) x = static_cast<float>(random.uniform() - 0.5);
    weights.emplace(port.name, value);
  }
  write_package(directory, config, [&](const std::string& name) { return weights.at(name); },
                {.buckets = {32}, .replace = true});
}

std::vector<std::int32_t> generate(const Package& package, std::string_view device) {
  Generation generation(package.load(find_device(device)), {{1, 2, 3}},
                        {.max_tokens = 8, .sampler = {}, .stop_tokens = {}});
  std::vector<std::int32_t> ids;
  while (!generation.done())
    for (const GeneratedToken& token : generation.step()) ids.push_back(token.choice.id);
  return ids;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return std::fprintf(stderr, "package DIRECTORY\n"), 2;
  write(arguments[1]);
  const Package package(arguments[1]);
  const std::vector<std::int32_t> on_cpu = generate(package, "cpu");
  std::printf("%zu programs for %s:", package.programs(), package.profile().c_str());
  for (const std::int32_t id : on_cpu) std::printf(" %d", id);
  std::printf("\n");
  return on_cpu.size() == 8 && generate(package, "sim:strict") == on_cpu ? 0 : 1;
}
