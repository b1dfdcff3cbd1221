// Adapters.
#include "python/bindings.h"
#include "python/convert.h"

#include "orion/adapters.h"
#include "orion/error.h"

namespace py = pybind11;

namespace orion {
namespace {

py::dict arrays_of(const TensorMap& tensors) {
  py::dict arrays;
  for (const auto& [name, value] : tensors) arrays[py::str(name)] = numpy_view(value);
  return arrays;
}

Tensor merged(const Adapter& adapter, const std::string& name, const py::array& weight) {
  for (const LoraModule& module : adapter.modules)
    if (module.name == name) return merged_weight(adapter, module, tensor_from_numpy(weight));
  fail("adapter: '", name, "' is none of its modules");
}

void bind_adapters(py::module_& m) {
  py::class_<Adapter>(m, "Adapter", "A and B of every module that an adapter reaches.")
      .def(py::init([](const py::dict& config, const LoraShape& shape, const py::dict& arrays) {
             return make_adapter(model_config_of(config), shape, tensors_of(arrays));
           }),
           py::arg("config"), py::arg("shape"), py::arg("arrays"))
      .def_readonly("shape", &Adapter::shape)
      .def(
          "merged",
          [](const Adapter& adapter, const std::string& module, const py::array& weight) {
            return numpy_view(merged(adapter, module, weight));
          },
          py::arg("module"), py::arg("weight"),
          "fp32: the module's weight + scale B A, in the layout that the weight has.");
  py::class_<AdapterSet>(m, "AdapterSet", "The adapters that are resident beside a model.")
      .def(
          "add",
          [](AdapterSet& set, const std::string& name, const LoraShape& shape, const py::dict& arrays) {
            set.add(name, shape, tensors_of(arrays));
          },
          py::arg("name"), py::arg("shape"), py::arg("arrays"))
      .def("remove", &AdapterSet::remove, py::arg("name"))
      .def_property_readonly("names", &AdapterSet::names)
      .def(
          "activate",
          [](AdapterSet& set, std::optional<std::string> name, double scale) {
            set.activate({std::move(name), scale});
          },
          py::arg("name"), py::arg("scale") = 1.0,
          "What the next tokens are computed with; None: no adapter.")
      .def_property_readonly(
          "active",
          [](const AdapterSet& set) {
            const AdapterChoice choice = set.active();
            return py::make_tuple(choice.name, choice.scale);
          },
          "(name or None, scale).")
      .def("reserve", &AdapterSet::reserve, py::arg("capacity"),
           "Has programs compiled for adapters to come: their targets, and a rank that holds them.")
      .def_property_readonly("capacity", &AdapterSet::capacity, "What programs are compiled for.");
}

}  // namespace

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
        return arrays_of(initial_lora(lora_modules(model_config_of(config), shape), shape.rank, seed));
      },
      py::arg("config"), py::arg("shape"), py::arg("seed") = 0,
      "Values to begin training with: A uniform in +-1 / sqrt(in), B zeros.");
  bind_adapters(m);
}

}  // namespace orion
