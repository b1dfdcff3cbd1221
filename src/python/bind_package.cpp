// Packages: models compiled for an engine.
#include "orion/package.h"

#include "python/bindings.h"
#include "python/convert.h"

#include <pybind11/stl/filesystem.h>

namespace py = pybind11;

namespace orion {
namespace {

using Progress = std::function<void(std::size_t, std::size_t)>;

// Called without the GIL.
Progress progress_of(const py::object& callback) {
  if (callback.is_none()) return {};
  return [&callback](std::size_t done, std::size_t programs) {
    const py::gil_scoped_acquire gil;
    callback(done, programs);
  };
}

void write(const std::filesystem::path& directory, const py::bytes& config, const py::object& weights,
           const std::string& profile, std::vector<std::int64_t> buckets,
           const std::map<std::string, py::bytes>& files, bool replace, const py::object& progress) {
  PackageOptions options{profile, std::move(buckets), {}, replace, progress_of(progress)};
  for (const auto& [name, content] : files) options.files.emplace(name, std::string(content));
  const std::string text(config);
  const WeightSource source = weight_source_of(weights);
  const py::gil_scoped_release release;
  write_package(directory, text, source, options);
}

std::shared_ptr<TextModel> load(const Package& package, const std::string& device, const std::string& host) {
  const py::gil_scoped_release release;
  return package.load(find_device(device), find_device(host));
}

py::list files_of(const Package& package) {
  py::list rows;
  for (const PackageFile& file : package.files())
    rows.append(py::make_tuple(file.path, file.bytes, file.sha256));
  return rows;
}

py::bytes read(const Package& package, const std::string& path) {
  return py::bytes(package.read(path));
}

}  // namespace

void bind_package(py::module_& m) {
  py::class_<Package>(m, "Package", "A model compiled for an engine, that runs without the checkpoint.")
      .def(py::init<const std::filesystem::path&>(), py::arg("directory"))
      .def("load", load, py::arg("device"), py::arg("host") = "cpu",
           "The model, its programs on `device` and the rest on `host`.")
      .def_property_readonly("directory", &Package::directory)
      .def_property_readonly("profile", &Package::profile, "The profile it was made for.")
      .def_property_readonly("version", &Package::version, "The version of Orion that wrote it.")
      .def_property_readonly("buckets", &Package::buckets, "Columns of the programs that read prompts.")
      .def_property_readonly("programs", &Package::programs, "How many there are.")
      .def_property_readonly("files", files_of, "(path, bytes, SHA-256) of each.")
      .def("read", read, py::arg("path"), "The content of a file; Error if it is not what was written.")
      .def("verify", &Package::verify, py::call_guard<py::gil_scoped_release>(),
           "Error naming the first file that is not what was written.");
  m.def("is_package", &is_package, py::arg("directory"), "Whether the directory has a manifest.");
  m.def("write_package", write, py::arg("directory"), py::arg("config"), py::arg("weights"), py::kw_only(),
        py::arg("profile") = "strict", py::arg("buckets") = std::vector<std::int64_t>{},
        py::arg("files") = std::map<std::string, py::bytes>{}, py::arg("replace") = false,
        py::arg("progress") = py::none(),
        "Writes a package: all of it or nothing. `config` is the content of a config.json.");
}

}  // namespace orion
