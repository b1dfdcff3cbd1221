// Packed weights as a file.
#include "orion/packed_file.h"

#include "python/bindings.h"
#include "python/convert.h"

#include <pybind11/stl/filesystem.h>

namespace py = pybind11;

namespace orion {
namespace {

void write(const std::filesystem::path& path, const py::dict& config, const py::object& weights,
           const std::string& dtype, const std::string& source) {
  const ModelConfig parsed = model_config_of(config);
  const WeightSource values = weight_source_of(weights);
  const py::gil_scoped_release release;
  write_packed_file(path, parsed, values, dtype, source);
}

py::list rows_of(const PackedFile& file) {
  py::list rows;
  for (const auto& [name, matrix] : file.weights().matrices)
    rows.append(py::make_tuple(name, matrix_format_name(matrix.format), tuple_of(matrix.type.shape),
                               matrix.content.bytes()));
  for (const auto& [name, tensor] : file.weights().tensors)
    rows.append(py::make_tuple(name, dtype_name(tensor.dtype()), tuple_of(tensor.shape()), tensor.bytes()));
  return rows;
}

std::shared_ptr<LanguageModel> load(const PackedFile& file, const py::dict& config,
                                    const std::string& device) {
  const ModelConfig parsed = model_config_of(config);
  const py::gil_scoped_release release;
  return std::make_shared<LanguageModel>(parsed, file.weights(), file.precision().dtype, find_device(device));
}

}  // namespace

void bind_packed(py::module_& m) {
  py::class_<PackedFile>(m, "PackedFile", "Weights packed for the CPU in a file that is mapped.")
      .def(py::init<const std::filesystem::path&>(), py::arg("path"))
      .def("load", load, py::arg("config"), py::arg("device") = "cpu",
           "The model with these weights, which are read where they are.")
      .def_property_readonly("dtype", &PackedFile::dtype, "How they are kept: \"fp32\", \"int4\", ...")
      .def_property_readonly("source", &PackedFile::source, "What they were made from: a fingerprint.")
      .def_property_readonly("tensors", rows_of, "(name, format, shape, bytes) of each.")
      .def("verify", &PackedFile::verify, py::call_guard<py::gil_scoped_release>(),
           "Error naming the first tensor that is not what was written.");
  m.def("write_packed", write, py::arg("path"), py::arg("config"), py::arg("weights"), py::arg("dtype"),
        py::arg("source"), "Packs a model's weights and writes them, whole or not at all.");
}

}  // namespace orion
