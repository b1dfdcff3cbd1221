// One bind_ function per public header; module.cpp calls them all.
#pragma once

#include "orion/graph.h"
#include "orion/model.h"

#include <pybind11/pybind11.h>

#include <memory>

namespace orion {

using GraphPtr = std::shared_ptr<Graph>;

/// A Value that keeps its graph alive.
struct PyValue {
  GraphPtr graph;
  NodeId id = absent;

  const Node& node() const { return graph->node(id); }
};

void bind_graph(pybind11::module_& m);
void bind_program(pybind11::module_& m);
void bind_mil(pybind11::module_& m);
void bind_model(pybind11::module_& m);
void bind_package(pybind11::module_& m);
void bind_packed(pybind11::module_& m);
void bind_ane(pybind11::module_& m);
void bind_engine(pybind11::module_& m);
void bind_dataset(pybind11::module_& m);
void bind_lora(pybind11::module_& m);
void bind_train(pybind11::module_& m);

/// A config.json as a dict; a mapping of arrays by name.
ModelConfig model_config_of(const pybind11::dict& config);
WeightSource weight_source_of(const pybind11::object& weights);

}  // namespace orion
