// What `orion doctor` asks of an engine, `orion bench` of the processor, and tests of the simulator.
#include "python/bindings.h"
#include "python/convert.h"

#include "ane/device.h"
#include "base/cache_directory.h"
#include "cpu/ceiling.h"
#include "cpu/kernels.h"
#include "orion/error.h"
#include "sim/simulator.h"

namespace py = pybind11;

namespace orion {
namespace {

ane::AneDevice& engine_device(const std::string& name) {
  auto* device = dynamic_cast<ane::AneDevice*>(&find_device(name));
  if (device == nullptr) fail("device '", name, "' has no engine");
  return *device;
}

py::dict engine_info(const std::string& name) {
  const ane::Runtime& runtime = engine_device(name).runtime();
  const ane::EngineInfo& info = runtime.info();
  py::dict result;
  result["profile"] = runtime.profile().name;
  result["framework"] = info.framework;
  result["chip"] = info.chip;
  result["os_build"] = info.os_build;
  result["found"] = info.found;
  result["missing"] = info.missing;
  return result;
}

py::dict engine_usage(const std::string& name) {
  ane::Runtime& runtime = engine_device(name).runtime();
  const ane::Usage usage = runtime.usage();
  py::dict result;
  result["compiles"] = usage.compiles;
  result["compile_budget"] = runtime.profile().compile_budget;
  result["most_loaded"] = runtime.most_loaded();
  result["loads"] = usage.loads;
  result["cache_hits"] = usage.cache_hits;
  result["known"] = usage.known;
  result["purges"] = usage.purges;
  result["compile_seconds"] = usage.compile_seconds;
  result["load_seconds"] = usage.load_seconds;
  return result;
}

py::list verdicts(const std::string& name) {
  std::vector<ane::Verdict> found;
  {
    const py::gil_scoped_release release;
    found = ane::update_verdicts(engine_device(name).runtime());
  }
  py::list result;
  for (const ane::Verdict& verdict : found) {
    py::dict row;
    row["strategy"] = ane::update_name(verdict.update);
    row["eligible"] = verdict.eligible;
    row["seconds"] = verdict.seconds;
    row["reason"] = verdict.reason;
    result.append(row);
  }
  return result;
}

py::dict cpu_ceiling(int threads, std::int64_t bytes, double seconds) {
  cpu::Ceiling ceiling;
  {
    const py::gil_scoped_release release;
    ceiling = cpu::measure_ceiling(threads, bytes, seconds);
  }
  py::dict result;
  result["flops"] = ceiling.flops;
  result["bf16_flops"] = ceiling.bf16_flops;
  result["int8_flops"] = ceiling.int8_flops;
  result["read_bytes"] = ceiling.read_bytes;
  return result;
}

py::dict simulator_counters(const std::string& profile) {
  const sim::Counters counters = sim::counters(profile);
  py::dict result;
  result["compiles"] = counters.compiles;
  result["loads"] = counters.loads;
  result["evaluations"] = counters.evaluations;
  result["loaded"] = counters.loaded;
  result["models"] = counters.models;
  result["surfaces"] = counters.surfaces;
  result["directories"] = counters.directories;
  result["compiled"] = counters.compiled;
  return result;
}

}  // namespace

void bind_engine(py::module_& m) {
  m.def(
      "engine_info", engine_info, py::arg("device"),
      "Framework, chip, system, the profile programs are made for, and what was found of the classes used.");
  m.def("cpu_kernels", cpu::isa_name, "The instruction set that the CPU's kernels use here.");
  m.def("cpu_ceiling", cpu_ceiling, py::kw_only(), py::arg("threads"), py::arg("bytes"), py::arg("seconds"),
        "The most operations per second of multiply-adds in fp32, bf16 and int8, and bytes read per second "
        "of a stream so long: best of about `seconds` each.");
  m.def("engine_usage", engine_usage, py::arg("device"), "Compiles, loads and cache hits of this process.");
  m.def("update_verdicts", verdicts, py::arg("device"),
        "Which weight update strategies have an effect here.");
  m.def("simulator_counters", simulator_counters, py::arg("profile"), "What is alive in a simulated engine.");
  m.def("simulator_restart", sim::restart, py::arg("profile"),
        "Forgets a simulated engine's compile budget, its compiled models, and those that nobody uses.");
  m.def(
      "simulator_freeze_weights",
      [](const std::string& profile, bool frozen) { sim::freeze_weights(profile, frozen); },
      py::arg("profile"), py::arg("frozen") = true,
      "A fault to test for: from now on a simulated engine loads what it knows with the weights it has.");
  m.def(
      "cache_directory", [] { return cache_directory().string(); },
      "Where findings are kept between processes.");
}

}  // namespace orion
