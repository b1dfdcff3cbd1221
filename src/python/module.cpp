#include "python/bindings.h"

#include "orion/error.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of orion_ane.";
  m.attr("__version__") = ORION_VERSION;
  const auto error = py::register_exception<orion::Error>(m, "Error", PyExc_ValueError);
  py::register_exception<orion::DeviceError>(m, "DeviceError", error);
  orion::bind_graph(m);
  orion::bind_program(m);
  orion::bind_mil(m);
  orion::bind_lora(m);
  orion::bind_model(m);
  orion::bind_package(m);
  orion::bind_packed(m);
  orion::bind_ane(m);
  orion::bind_engine(m);
  orion::bind_dataset(m);
  orion::bind_train(m);
}
