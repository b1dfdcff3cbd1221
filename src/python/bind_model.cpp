// Models, sampling and generation.
#include "python/bindings.h"
#include "python/convert.h"

#include "base/threads.h"
#include "orion/adapters.h"
#include "orion/error.h"
#include "orion/generate.h"
#include "run/engine_model.h"

namespace py = pybind11;

namespace orion {
namespace {

ConfigValue number_of(const py::int_& value) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  return overflow == 0 ? ConfigValue(static_cast<std::int64_t>(number)) : ConfigValue(value.cast<double>());
}

ConfigValue scalar_of(const py::handle& value, const std::string& key) {
  if (value.is_none()) return std::monostate{};
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>();
  if (py::isinstance<py::int_>(value)) return number_of(py::reinterpret_borrow<py::int_>(value));
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  fail("config: ", key, " is a ", py::str(py::type::of(value).attr("__name__")).cast<std::string>(),
       ", what JSON can hold is needed");
}

void flatten(const py::handle& value, const std::string& key, ConfigMap& map) {
  const std::string prefix = key.empty() ? "" : key + '.';
  if (py::isinstance<py::dict>(value)) {
    for (const auto& [name, inner] : py::reinterpret_borrow<py::dict>(value))
      flatten(inner, prefix + py::str(name).cast<std::string>(), map);
  } else if (py::isinstance<py::list>(value)) {
    std::size_t i = 0;
    for (const py::handle inner : value) flatten(inner, str(prefix, i++), map);
  } else {
    map.insert_or_assign(key, scalar_of(value, key));
  }
}

}  // namespace

ModelConfig model_config_of(const py::dict& config) {
  ConfigMap map;
  flatten(config, "", map);
  return configure(map);
}

WeightSource weight_source_of(const py::object& weights) {
  return [&weights](const std::string& name) {
    const py::gil_scoped_acquire gil;
    const py::object value = weights.attr("get")(name);
    return value.is_none() ? Tensor{} : tensor_from_numpy(py::array(value));
  };
}

namespace {

std::vector<std::int32_t> ids_of(const py::handle& ids, std::string_view what) {
  std::vector<std::int64_t> wide;
  try {
    wide = ids.cast<std::vector<std::int64_t>>();
  } catch (const py::cast_error&) {
    fail(what, ": a sequence of ints (token ids) is needed");
  }
  std::vector<std::int32_t> narrow;
  for (const std::int64_t id : wide) {
    narrow.push_back(static_cast<std::int32_t>(id));
    if (narrow.back() != id)
      fail(what, ": token id ", id, " at index ", narrow.size() - 1, " is outside any vocabulary");
  }
  return narrow;
}

std::shared_ptr<LanguageModel> make_model(const py::dict& config, const py::object& weights,
                                          const std::string& dtype, const std::string& device) {
  const ModelConfig parsed = model_config_of(config);
  const WeightSource source = weight_source_of(weights);
  const py::gil_scoped_release release;
  return std::make_shared<LanguageModel>(parsed, source, precision_from_name(dtype), find_device(device));
}

std::shared_ptr<EngineModel> make_engine_model(const py::dict& config, const py::object& weights,
                                               const std::string& engine, const std::string& use,
                                               const std::string& host) {
  const ModelConfig parsed = model_config_of(config);
  const WeightSource source = weight_source_of(weights);
  const py::gil_scoped_release release;
  return std::make_shared<EngineModel>(parsed, source, find_device(engine), find_device(host),
                                       engine_use(use));
}

py::array logits(TextModel& model, const py::object& ids) {
  const std::vector<std::int32_t> tokens = ids_of(ids, "logits");
  Tensor result;
  {
    const py::gil_scoped_release release;
    result = model.logits(tokens);
  }
  return numpy_view(result);
}

using NamedScale = std::pair<std::optional<std::string>, double>;

std::unique_ptr<Generation> make_generation(std::shared_ptr<TextModel> model, const py::list& prompts,
                                            const SamplerOptions& sampler, std::int64_t max_tokens,
                                            std::vector<std::int32_t> stop_tokens,
                                            const std::vector<NamedScale>& adapters) {
  std::vector<std::vector<std::int32_t>> tokens;
  for (const py::handle prompt : prompts) tokens.push_back(ids_of(prompt, "prompt"));
  GenerateOptions options{max_tokens, sampler, std::move(stop_tokens), {}};
  for (const auto& [name, scale] : adapters) options.adapters.push_back({name, scale});
  return std::make_unique<Generation>(std::move(model), std::move(tokens), std::move(options));
}

Choice choose(Sampler& sampler, const py::array& scores) {
  const TensorType type{DType::fp32, {scores.size()}};
  return sampler.choose(tensor_from_numpy(scores, type, "logits").as<float>());
}

py::dict weight_shapes(const py::dict& config) {
  py::dict shapes;
  for (const Port& weight : model_weights(model_config_of(config), DType::fp32))
    shapes[py::str(weight.name)] = tuple_of(weight.type.shape);
  return shapes;
}

std::shared_ptr<Graph> model_graph(const py::dict& config, const std::string& dtype, std::int64_t batch,
                                   std::int64_t tokens, std::int64_t cache, bool last) {
  const Head head = last ? Head::last_position : Head::every_position;
  return std::make_shared<Graph>(
      forward(model_config_of(config), {batch, tokens, cache, head}, dtype_from_name(dtype)));
}

std::shared_ptr<Graph> segment_graph(const py::dict& config, const std::string& kind, std::int64_t layer,
                                     std::int64_t tokens, std::int64_t first, std::int64_t count) {
  return std::make_shared<Graph>(segment(
      model_config_of(config),
      {.kind = segment_kind(kind), .layer = layer, .tokens = tokens, .first = first, .count = count}));
}

std::vector<std::string_view> model_types() {
  std::vector<std::string_view> types;
  for (const ModelDef* def : all_models()) types.push_back(def->model_type);
  return types;
}

void bind_sampler(py::module_& m) {
  py::class_<SamplerOptions>(m, "SamplerOptions", "How tokens are chosen; see Model.generate.")
      .def(py::init([](double temperature, std::int64_t top_k, double top_p, double min_p,
                       double repetition_penalty, std::optional<std::uint64_t> seed,
                       std::optional<std::int64_t> logprobs) {
             return SamplerOptions{temperature, top_k, top_p, min_p, repetition_penalty, seed, logprobs};
           }),
           py::kw_only(), py::arg("temperature") = 0.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0,
           py::arg("min_p") = 0.0, py::arg("repetition_penalty") = 1.0, py::arg("seed") = py::none(),
           py::arg("logprobs") = py::none());
  py::class_<Choice>(m, "Choice", "A token chosen from logits.")
      .def_readonly("id", &Choice::id)
      .def_readonly("logprob", &Choice::logprob, "Under the model's own distribution, no filter applied.")
      .def_property_readonly(
          "top",
          [](const Choice& choice) {
            std::vector<std::pair<std::int32_t, double>> pairs;
            for (const TokenLogprob& t : choice.top) pairs.emplace_back(t.id, t.logprob);
            return pairs;
          },
          "The most probable tokens: (id, logprob), best first.");
  py::class_<Sampler>(m, "Sampler", "Chooses tokens of one sequence.")
      .def(py::init<const SamplerOptions&, std::int64_t>(), py::arg("options"), py::arg("vocab"))
      .def_property_readonly("seed", &Sampler::seed)
      .def("see", &Sampler::see, py::arg("id"), "Counts a token as seen by the repetition penalty.")
      .def("choose", choose, py::arg("logits"), "Chooses from fp32 logits (V,).");
}

void bind_generation(py::module_& m) {
  py::class_<GeneratedToken>(m, "GeneratedToken", "What one step gave one sequence.")
      .def_readonly("sequence", &GeneratedToken::sequence)
      .def_readonly("choice", &GeneratedToken::choice)
      .def_readonly("is_stop_token", &GeneratedToken::is_stop_token, "Then it is no part of the text.")
      .def_property_readonly(
          "finish", [](const GeneratedToken& token) { return finish_name(token.finish); },
          "'' if the sequence goes on, else 'stop', 'length' or 'context'.");
  py::class_<Generation>(m, "Generation", "Completes a batch of prompts, one token each per step.")
      .def(py::init(&make_generation), py::arg("model"), py::arg("prompts"), py::arg("sampler"),
           py::arg("max_tokens"), py::arg("stop_tokens"), py::arg("adapters") = std::vector<NamedScale>{})
      .def("step", &Generation::step, py::call_guard<py::gil_scoped_release>(),
           "The next token of every unfinished sequence; the first call reads the prompts.")
      .def("stop", &Generation::stop, py::arg("sequence"), "Ends a sequence.")
      .def(
          "finish", [](const Generation& g, std::size_t sequence) { return finish_name(g.finish(sequence)); },
          py::arg("sequence"), "Why a sequence ended; '' if it has not.")
      .def_property_readonly("done", &Generation::done)
      .def_property_readonly("seed", &Generation::seed);
}

}  // namespace

void bind_model(py::module_& m) {
  py::class_<TextModel, std::shared_ptr<TextModel>>(m, "TextModel", "A model that can continue texts.")
      .def("logits", logits, py::arg("ids"), "fp32 (T, V): row t is what follows ids[:t + 1].")
      .def_property_readonly("device", &TextModel::device)
      .def_property_readonly("num_parameters", &TextModel::parameters)
      .def_property_readonly("compile_seconds", &TextModel::compile_seconds,
                             "Spent so far; programs are compiled when a shape is first asked for.")
      .def_property_readonly("notes", &TextModel::notes,
                             "What went otherwise than asked for so far: sentences.")
      .def_property_readonly("compiles", &TextModel::compiles, "Programs compiled so far.")
      .def_property_readonly("adapters", &TextModel::adapters, py::return_value_policy::reference_internal)
      .def_property_readonly("vocab_size", [](const TextModel& model) { return model.config().vocab; })
      .def_property_readonly("context", [](const TextModel& model) { return model.config().context; });
  py::class_<LanguageModel, TextModel, std::shared_ptr<LanguageModel>>(
      m, "LanguageModel", "A configuration with its weights on a device that runs it whole.")
      .def(py::init(&make_model), py::arg("config"), py::arg("weights"), py::arg("dtype"), py::arg("device"));
  py::class_<EngineModel, TextModel, std::shared_ptr<EngineModel>>(
      m, "EngineModel", "A configuration with its weights in segments on an engine, fp16.")
      .def(py::init(&make_engine_model), py::arg("config"), py::arg("weights"), py::arg("engine"),
           py::arg("use") = "engine", py::arg("host") = "cpu",
           "use is 'engine' for prompts and what follows, 'engine-prefill' for prompts alone, or "
           "'engine-and-head' for the logits too.");
  bind_sampler(m);
  bind_generation(m);
  m.def("model_types", model_types, "Every `model_type` that can run.");
  m.def(
      "model_context", [](const py::dict& config) { return model_config_of(config).context; },
      py::arg("config"), "Positions that a model of this configuration has.");
  m.def("model_weights", weight_shapes, py::arg("config"), "{name: shape} of the weights a config asks for.");
  m.def("model_graph", model_graph, py::arg("config"), py::kw_only(), py::arg("dtype") = "fp32",
        py::arg("batch") = 1, py::arg("tokens") = 1, py::arg("cache") = 0, py::arg("last") = false,
        "The graph of a model for one shape; cache=0 reads a whole text without a cache.");
  m.def(
      "segment_graph", segment_graph, py::arg("config"), py::arg("kind"), py::kw_only(), py::arg("layer") = 0,
      py::arg("tokens") = decode_columns, py::arg("first") = 0, py::arg("count") = 0,
      "The graph of one segment: 'attention', 'feed_forward', 'projection' or 'output' of a layer, or 'head' "
      "for token ids first .. first + count - 1 (0: all).");
  m.def("thread_count", [] { return shared_pool().size(); }, "Threads of this process's pool.");
}

}  // namespace orion
