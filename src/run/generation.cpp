#include "orion/error.h"
#include "orion/generate.h"

#include <algorithm>

namespace orion {
namespace {

// Cache sizes are multiples of this, so that a compiled program serves many prompts.
constexpr std::int64_t row_step = 256;

// Rows for prompt and completion: the last token given is never read.
std::int64_t rows_for(const ModelConfig& config, std::size_t longest_prompt, std::int64_t max_tokens) {
  const std::int64_t wanted =
      static_cast<std::int64_t>(longest_prompt) + std::min(max_tokens, config.context);
  return std::min(config.context, (wanted + row_step - 1) / row_step * row_step);
}

SamplerOptions seeded(SamplerOptions options, std::uint64_t seed) {
  options.seed = seed;
  return options;
}

void check(const GenerateOptions& options, const ModelConfig& config) {
  if (options.max_tokens < 0) fail("max_tokens is ", options.max_tokens, ", at least 0 is needed");
  for (const std::int32_t id : options.stop_tokens)
    if (id < 0 || id >= config.vocab)
      fail("stop token id ", id, " is outside the vocabulary of ", config.vocab);
}

}  // namespace

std::string_view finish_name(Finish finish) {
  constexpr std::string_view names[] = {"", "stop", "length", "context"};
  return names[static_cast<std::size_t>(finish)];
}

Generation::Generation(std::shared_ptr<TextModel> model, std::vector<std::vector<std::int32_t>> prompts,
                       GenerateOptions options)
    : model_(std::move(model)), options_(std::move(options)) {
  const ModelConfig& config = model_->config();
  check(options_, config);
  if (prompts.empty()) fail("generate: no prompt given");
  if (!options_.adapters.empty() && options_.adapters.size() != prompts.size())
    fail("generate: ", options_.adapters.size(), " adapters for ", prompts.size(), " prompts");
  for (const AdapterChoice& choice : options_.adapters)
    adapters_.push_back(model_->adapters().inputs(choice));
  seed_ = Sampler(options_.sampler, config.vocab).seed();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    model_->check_ids(prompts[i], prompts.size() == 1 ? "prompt" : str("prompt ", i));
    Sampler sampler(seeded(options_.sampler, seed_ + i), config.vocab);
    for (const std::int32_t id : prompts[i]) sampler.see(id);
    sequences_.push_back({.prompt = std::move(prompts[i]), .sampler = std::move(sampler)});
    if (options_.max_tokens == 0) sequences_.back().finish = Finish::length;
  }
}

bool Generation::done() const {
  return std::ranges::none_of(sequences_, [](const Sequence& s) { return s.finish == Finish::none; });
}

void Generation::stop(std::size_t sequence) {
  if (sequence >= sequences_.size())
    fail("generate: no sequence ", sequence, " in a batch of ", sequences_.size());
  if (sequences_[sequence].finish == Finish::none) sequences_[sequence].finish = Finish::stop;
}

std::vector<GeneratedToken> Generation::step() {
  if (done()) fail("generate: every sequence is finished");
  std::vector<GeneratedToken> tokens;
  if (started_)
    read_last_tokens(tokens);
  else
    read_prompts(tokens);
  started_ = true;
  return tokens;
}

void Generation::read_prompts(std::vector<GeneratedToken>& tokens) {
  std::size_t longest = 0;
  for (const Sequence& s : sequences_) longest = std::max(longest, s.prompt.size());
  session_.emplace(model_, static_cast<std::int64_t>(sequences_.size()),
                   rows_for(model_->config(), longest, options_.max_tokens), adapters_);
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    Sequence& s = sequences_[i];
    if (s.finish != Finish::none) continue;
    const Tensor logits = session_->read(static_cast<std::int64_t>(i), s.prompt);
    s.position = static_cast<std::int64_t>(s.prompt.size());
    tokens.push_back(advance(i, logits.as<float>()));
  }
}

void Generation::read_last_tokens(std::vector<GeneratedToken>& tokens) {
  // Finished sequences idle: they overwrite the first row of their cache, which nobody reads again.
  std::vector<std::int32_t> ids(sequences_.size(), 0);
  std::vector<std::int32_t> positions(sequences_.size(), 0);
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    if (sequences_[i].finish != Finish::none) continue;
    ids[i] = sequences_[i].last;
    positions[i] = static_cast<std::int32_t>(sequences_[i].position++);
  }
  const Tensor logits = session_->step(ids, positions);
  const auto vocab = static_cast<std::size_t>(model_->config().vocab);
  for (std::size_t i = 0; i < sequences_.size(); ++i)
    if (sequences_[i].finish == Finish::none)
      tokens.push_back(advance(i, logits.as<float>().subspan(i * vocab, vocab)));
}

GeneratedToken Generation::advance(std::size_t index, std::span<const float> logits) {
  Sequence& s = sequences_[index];
  GeneratedToken token{.sequence = index};
  try {
    token.choice = s.sampler.choose(logits);
  } catch (const Error& error) {
    fail("generate: sequence ", index, ", position ", s.position - 1, ": ", error.what());
  }
  token.is_stop_token = std::ranges::count(options_.stop_tokens, token.choice.id) > 0;
  s.last = token.choice.id;
  ++s.given;
  if (token.is_stop_token)
    s.finish = Finish::stop;
  else if (s.given == options_.max_tokens)
    s.finish = Finish::length;
  else if (s.position == model_->config().context)
    s.finish = Finish::context;
  token.finish = s.finish;
  return token;
}

}  // namespace orion
