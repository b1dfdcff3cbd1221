// Adapters.
#include "python/bindings.h"
#include "python/convert.h"

#include "orion/lora.h"

namespace py = pybind11;

namespace orion {

void bind_lora(py::module_& m) {
  py::class_<LoraShape>(m, "LoraShape", "Which modules get an adapter, and how large it is.")
      .def(py::init([](std::int64_t rank, double scale, std::vector<std::string> targets) {
             return LoraShape{rank, scale, std::move(targets)};
           }),
           py::kw_only(), py::arg("rank"), py::arg("scale"), py::arg("targets"))
      .def_readonly("rank", &LoraShape::rank)
      .def_readonly("scale", &LoraShape::scale)
      .def_readonly("targets", &LoraShape::targets);
  m.def(
      "lora_modules",
      [](const py::dict& config, const LoraShape& shape) {
        py::dict modules;
        for (const LoraModule& module : lora_modules(model_config_of(config), shape))
          modules[py::str(module.name)] = py::make_tuple(module.in, module.out);
        return modules;
      },
      py::arg("config"), py::arg("shape"), "{module: (in, out)} of every module that is a target.");
  m.def(
      "initial_lora",
      [](const py::dict& config, const LoraShape& shape, std::uint64_t seed) {
        py::dict arrays;
        for (const auto& [name, value] :
             initial_lora(lora_modules(model_config_of(config), shape), shape.rank, seed))
          arrays[py::str(name)] = numpy_view(value);
        return arrays;
      },
      py::arg("config"), py::arg("shape"), py::arg("seed") = 0,
      "Values to begin training with: A uniform in +-1 / sqrt(in), B zeros.");
}

}  // namespace orion
