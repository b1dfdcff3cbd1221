// Devices and programs.
#include "python/bindings.h"
#include "python/convert.h"

#include "base/stopwatch.h"
#include "orion/device.h"
#include "orion/error.h"

#include <mutex>

namespace py = pybind11;

namespace orion {
namespace {

struct PyProgram {
  std::unique_ptr<Program> program;
  std::mutex turn;  // a program serves one caller at a time
};

const Port& port(const std::vector<Port>& ports, std::string_view what, const std::string& name) {
  for (const Port& candidate : ports)
    if (candidate.name == name) return candidate;
  std::string known;
  for (const Port& candidate : ports) known += str(known.empty() ? "" : ", ", candidate.name);
  fail("no ", what, " '", name, "': the program has ", known);
}

bool is_state(const Program& program, std::string_view name) {
  const auto same = [&](const Port& p) { return p.name == name; };
  return std::ranges::any_of(program.inputs(), same) && std::ranges::any_of(program.outputs(), same);
}

void run(PyProgram& self) {
  const py::gil_scoped_release release;
  const std::lock_guard lock(self.turn);
  self.program->run();
}

// Binds the arrays given, runs, and gives the program its own buffers back whatever happens.
py::dict call(PyProgram& self, const py::KWArgs<py::array>& inputs) {
  Program& program = *self.program;
  std::vector<std::pair<std::string, Tensor>> bound;
  for (const auto& [key, value] : inputs) {
    const auto name = key.cast<std::string>();
    const Port& input = port(program.inputs(), "input", name);
    Tensor tensor =
        tensor_from_numpy(py::reinterpret_borrow<py::object>(value), input.type, str("input '", name, "'"));
    bound.emplace_back(name, is_state(program, name) ? tensor.clone() : tensor);
  }
  for (const Port& input : program.inputs())
    if (!inputs.contains(input.name.c_str()))
      fail("input '", input.name, "' is not given: ", input.type, " is needed");
  py::dict result;
  for (const Port& output : program.outputs()) {
    if (!is_state(program, output.name)) bound.emplace_back(output.name, Tensor(output.type));
  }
  {
    const py::gil_scoped_release release;
    const std::lock_guard lock(self.turn);
    std::vector<Tensor> own;
    for (const auto& [name, tensor] : bound) {
      own.push_back(program.buffer(name));
      program.bind(name, tensor);
    }
    const auto restore = [&] {
      for (std::size_t i = 0; i < bound.size(); ++i) program.bind(bound[i].first, own[i]);
    };
    try {
      program.run();
    } catch (...) {
      restore();
      throw;
    }
    restore();
  }
  for (const auto& [name, tensor] : bound)
    for (const Port& output : program.outputs())
      if (output.name == name) result[py::str(name)] = numpy_view(tensor);
  return result;
}

// What a caller in C++ waits for.
double time_runs(PyProgram& self, std::int64_t count) {
  if (count < 1) fail("time_runs: ", count, " runs, at least 1 is needed");
  const py::gil_scoped_release release;
  const std::lock_guard lock(self.turn);
  double seconds = 0.0;
  {
    const Stopwatch watch(seconds);
    for (std::int64_t i = 0; i < count; ++i) self.program->run();
  }
  return seconds;
}

py::array view(PyProgram& self, const std::vector<Port>& ports, std::string_view what,
               const std::string& name) {
  port(ports, what, name);
  return numpy_view(self.program->buffer(name));
}

py::dict types(const std::vector<Port>& ports) {
  py::dict result;
  for (const Port& p : ports)
    result[py::str(p.name)] = py::make_tuple(dtype_name(p.type.dtype), tuple_of(p.type.shape));
  return result;
}

// Takes the GIL's place in serialising updates with runs.
void update(PyProgram& self, const py::dict& changes) {
  DeviceWeights& weights = *self.program->weights();
  TensorMap tensors;
  const std::vector<Port> known = weights.list();
  for (const auto& [key, value] : changes) {
    const auto name = key.cast<std::string>();
    const Port& weight = port(known, "weight", name);
    tensors[name] =
        tensor_from_numpy(py::reinterpret_borrow<py::object>(value), weight.type, str("weight '", name, "'"));
  }
  const py::gil_scoped_release release;
  const std::lock_guard lock(self.turn);
  weights.update(tensors);
}

std::unique_ptr<PyProgram> compile(const Graph& graph, const py::dict& weights, const std::string& device) {
  TensorMap tensors = tensors_of(weights);
  auto result = std::make_unique<PyProgram>();
  const py::gil_scoped_release release;
  Device& target = find_device(device);
  result->program = target.compile(graph, target.load(tensors));
  return result;
}

}  // namespace

void bind_program(py::module_& m) {
  py::class_<PyProgram>(m, "Program",
                        "A compiled graph: call it with its inputs by name, get its outputs by name.")
      .def("__call__", call,
           "Runs with the arrays given (not copied where dtype and layout agree); returns new arrays.")
      .def("run", run, "Runs on the program's own buffers: see `input` and `output`.")
      .def("time_runs", time_runs, py::arg("count"),
           "Seconds of so many runs one after the other, without Python between them.")
      .def(
          "input",
          [](PyProgram& p, const std::string& name) { return view(p, p.program->inputs(), "input", name); },
          py::arg("name"), "An input's memory, to write into.")
      .def(
          "output",
          [](PyProgram& p, const std::string& name) { return view(p, p.program->outputs(), "output", name); },
          py::arg("name"), "An output's memory, to read after `run`; the next run overwrites it.")
      .def("update", update, py::arg("weights"),
           "Replaces whole weights without planning again. All or nothing.")
      .def(
          "weight",
          [](PyProgram& p, const std::string& name) { return numpy_view(p.program->weights()->read(name)); },
          py::arg("name"), "A copy of a weight's current value.")
      .def_property_readonly(
          "inputs", [](const PyProgram& p) { return types(p.program->inputs()); }, "{name: (dtype, shape)}")
      .def_property_readonly(
          "outputs", [](const PyProgram& p) { return types(p.program->outputs()); }, "{name: (dtype, shape)}")
      .def_property_readonly(
          "device", [](const PyProgram& p) { return p.program->device(); }, "Where it runs.")
      .def(
          "describe", [](const PyProgram& p) { return p.program->describe(); },
          "The plan, one line per step.")
      .def("__repr__", [](const PyProgram& p) {
        return str("<Program on ", p.program->device(), ": ", p.program->inputs().size(), " inputs, ",
                   p.program->outputs().size(), " outputs>");
      });
  m.def("compile", compile, py::arg("graph"), py::arg("weights") = py::dict(), py::arg("device") = "auto",
        "Compiles a graph for a device. `weights` holds every weight of the graph by name.");
  m.def("device_names", device_names, "The devices of this build.");
}

}  // namespace orion
