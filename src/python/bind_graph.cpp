// Graph, Value and the op table.
#include "python/bindings.h"
#include "python/convert.h"

#include "orion/error.h"
#include "orion/op.h"
#include "orion/passes.h"
#include "orion/split.h"

namespace py = pybind11;

namespace orion {
namespace {

DType dtype_argument(const std::string& name) {
  return dtype_from_name(name);
}

PyValue value_of(const GraphPtr& graph, Value value) {
  return {graph, value.id};
}

Value constant_from(const GraphPtr& graph, const py::object& value, std::optional<DType> dtype,
                    std::string_view name = "") {
  const bool number = py::isinstance<py::int_>(value) || py::isinstance<py::float_>(value);
  if (number) return graph->constant(Tensor::scalar(dtype.value_or(DType::fp32), value.cast<double>()), name);
  const py::array array = py::array::ensure(value);
  if (!array) fail("a number or an array is needed, not ", py::str(py::type::of(value)).cast<std::string>());
  if (!dtype) return graph->constant(tensor_from_numpy(array).clone(), name);
  const std::vector<std::int64_t> sizes(array.shape(), array.shape() + array.ndim());
  return graph->constant(tensor_from_numpy(array, {*dtype, Shape(sizes)}, "constant").clone(), name);
}

// -- calling ops ----------------------------------------------------------------------------------

struct Operands {
  GraphPtr graph;
  DType number_dtype = DType::fp32;  // of plain numbers among the operands
};

Operands common(const OpDef& def, const py::list& operands) {
  Operands found;
  for (const py::handle operand : operands) {
    if (!py::isinstance<PyValue>(operand)) continue;
    const auto& value = operand.cast<const PyValue&>();
    if (found.graph != nullptr && found.graph != value.graph) fail(def.name, ": operands of two graphs");
    const bool decides = found.graph == nullptr || found.number_dtype == DType::boolean;
    if (decides) found.number_dtype = value.node().type.dtype;
    found.graph = value.graph;
  }
  if (found.graph == nullptr) fail(def.name, ": at least one operand must be a graph's value");
  return found;
}

std::vector<Value> values_of(const Operands& found, const py::list& operands) {
  std::vector<Value> values;
  for (const py::handle operand : operands) {
    if (operand.is_none())
      values.emplace_back();
    else if (py::isinstance<PyValue>(operand))
      values.push_back(found.graph->value(operand.cast<const PyValue&>().id));
    else if (py::isinstance<py::array>(operand))
      values.push_back(constant_from(found.graph, py::reinterpret_borrow<py::object>(operand), std::nullopt));
    else
      values.push_back(
          constant_from(found.graph, py::reinterpret_borrow<py::object>(operand), found.number_dtype));
  }
  return values;
}

Attr attr_from(const OpDef& def, const AttrDef& attr, const py::handle& value) {
  try {
    switch (attr.kind) {
      case AttrKind::boolean:
        return value.cast<bool>();
      case AttrKind::integer:
        return value.cast<std::int64_t>();
      case AttrKind::number:
        return value.cast<double>();
      case AttrKind::text:
        return value.cast<std::string>();
      case AttrKind::booleans:
      case AttrKind::integers:
        if (py::isinstance<py::int_>(value)) return std::vector{value.cast<std::int64_t>()};
        return value.cast<std::vector<std::int64_t>>();
    }
  } catch (const py::cast_error&) {
    fail(def.name, ": ", attr.name, " cannot be ", py::repr(value).cast<std::string>());
  }
  return false;
}

PyValue call(const std::string& name, const py::list& operands, const py::dict& attrs,
             const std::string& node_name) {
  const OpDef& def = op(name);
  const Operands found = common(def, operands);
  AttrMap map;
  for (const auto& [key, value] : attrs) {
    const auto index = def.attr_index(key.cast<std::string>());
    if (!index) fail(def.name, ": no attribute '", key.cast<std::string>(), "'");
    map[key.cast<std::string>()] = attr_from(def, def.attrs[*index], value);
  }
  return value_of(found.graph, found.graph->add(name, values_of(found, operands), map, node_name));
}

py::object attr_object(const AttrDef& def, const Attr& attr) {
  if (def.kind == AttrKind::booleans) {
    py::list flags;
    for (const std::int64_t flag : std::get<std::vector<std::int64_t>>(attr)) flags.append(flag != 0);
    return flags;
  }
  return std::visit([](const auto& value) -> py::object { return py::cast(value); }, attr);
}

py::list op_table() {
  constexpr const char* arg_kinds[] = {"required", "optional", "variadic"};
  constexpr const char* attr_kinds[] = {"bool", "int", "float", "str", "bools", "ints"};
  py::list table;
  for (const OpDef* def : all_ops()) {
    if (def->is_source()) continue;
    py::list args;
    for (const ArgDef& arg : def->args)
      args.append(py::make_tuple(arg.name, arg_kinds[static_cast<int>(arg.kind)]));
    py::list attrs;
    for (const AttrDef& attr : def->attrs)
      attrs.append(py::make_tuple(attr.name, attr_kinds[static_cast<int>(attr.kind)],
                                  attr.fallback.has_value(),
                                  attr.fallback ? attr_object(attr, *attr.fallback) : py::none()));
    py::dict row;
    row["name"] = def->name;
    row["doc"] = def->doc;
    row["args"] = args;
    row["attrs"] = attrs;
    row["elementwise"] = def->elementwise;
    row["has_gradient"] = def->gradient != nullptr;
    row["has_expand"] = def->expand != nullptr;
    table.append(row);
  }
  return table;
}

// -- Node, for looking at graphs -------------------------------------------------------------------

py::dict node_attrs(const PyValue& value) {
  const Node& node = value.node();
  py::dict attrs;
  for (std::size_t i = 0; i < node.attrs.size(); ++i)
    attrs[py::str(std::string(node.op->attrs[i].name))] = attr_object(node.op->attrs[i], node.attrs[i]);
  return attrs;
}

py::list node_operands(const PyValue& value) {
  py::list operands;
  for (const NodeId input : value.node().inputs)
    operands.append(input == absent ? py::none() : py::cast(PyValue{value.graph, input}));
  return operands;
}

py::object node_constant(const PyValue& value) {
  if (value.node().value.empty()) return py::none();
  return numpy_view(value.node().value, false);
}

// -- Graph ----------------------------------------------------------------------------------------

py::dict ports(const GraphPtr& graph, const std::vector<NodeId>& ids) {
  py::dict result;
  for (const NodeId id : ids) result[py::str(graph->node(id).name)] = PyValue{graph, id};
  return result;
}

py::dict graph_outputs(const GraphPtr& graph) {
  py::dict result;
  for (const Output& output : graph->outputs()) result[py::str(output.name)] = PyValue{graph, output.node};
  return result;
}

py::dict graph_weights(const GraphPtr& graph) {
  std::vector<NodeId> ids;
  for (NodeId id = 0; id < graph->size(); ++id)
    if (graph->node(id).is("weight")) ids.push_back(id);
  return ports(graph, ids);
}

std::vector<PyValue> graph_nodes(const GraphPtr& graph) {
  std::vector<PyValue> nodes;
  for (NodeId id = 0; id < graph->size(); ++id) nodes.push_back({graph, id});
  return nodes;
}

std::vector<PyValue> graph_gradient(const GraphPtr& graph, const PyValue& loss,
                                    const std::vector<PyValue>& wrt) {
  if (loss.graph != graph) fail("gradient: the loss belongs to another graph");
  std::vector<Value> values;
  for (const PyValue& value : wrt) {
    if (value.graph != graph) fail("gradient: a value to differentiate by belongs to another graph");
    values.push_back(graph->value(value.id));
  }
  std::vector<PyValue> result;
  for (const Value& value : gradient(*graph, graph->value(loss.id), values))
    result.push_back(value_of(graph, value));
  return result;
}

py::dict evaluate_graph(const GraphPtr& graph, const py::dict& inputs, const py::dict& weights) {
  py::dict result;
  for (const auto& [name, tensor] : evaluate(*graph, tensors_of(inputs), tensors_of(weights)))
    result[py::str(name)] = numpy_view(tensor);
  return result;
}

GraphPtr expanded(const GraphPtr& graph, const std::optional<std::vector<std::string>>& names) {
  return std::make_shared<Graph>(expand_composites(*graph, [&](const Graph&, const Node& node) {
    return !names || std::ranges::find(*names, node.op->name) != names->end();
  }));
}

// Python's operators, by the op that each one means.
struct Operator {
  const char* method;
  const char* op;
  bool reflected;
};

constexpr Operator operators[] = {
    {"__add__", "add", false},          {"__radd__", "add", true},          {"__sub__", "sub", false},
    {"__rsub__", "sub", true},          {"__mul__", "mul", false},          {"__rmul__", "mul", true},
    {"__truediv__", "real_div", false}, {"__rtruediv__", "real_div", true}, {"__pow__", "pow", false},
    {"__rpow__", "pow", true},          {"__matmul__", "matmul", false},    {"__rmatmul__", "matmul", true},
};

void bind_operators(py::class_<PyValue>& value) {
  for (const Operator& o : operators) {
    const auto apply = [o](const py::object& self, const py::object& other) {
      py::list operands;
      operands.append(o.reflected ? other : self);
      operands.append(o.reflected ? self : other);
      return call(o.op, operands, {}, "");
    };
    value.def(o.method, apply, py::is_operator());
  }
  value.def("__neg__", [](const py::object& self) {
    py::list operands;
    operands.append(self);
    return call("neg", operands, {}, "");
  });
}

std::vector<PyValue> split_value(const PyValue& x, std::optional<std::int64_t> parts, std::int64_t axis,
                                 const std::optional<std::vector<std::int64_t>>& sizes) {
  if (parts.has_value() == sizes.has_value()) fail("split: either num_splits or split_sizes is needed");
  const Value value = x.graph->value(x.id);
  std::vector<PyValue> result;
  for (const Value& part : parts ? split(value, *parts, axis) : split(value, *sizes, axis))
    result.push_back(value_of(x.graph, part));
  return result;
}

void bind_value(py::module_& m) {
  py::class_<PyValue> value(m, "Value", "One result inside a graph under construction.");
  bind_operators(value);
  value.attr("__array_ufunc__") = py::none();  // so that array + value comes to us
  value
      .def_property_readonly(
          "name", [](const PyValue& v) { return v.node().name; }, "Name of the node, unique in its graph.")
      .def_property_readonly(
          "op", [](const PyValue& v) { return v.node().op->name; }, "Name of the op.")
      .def_property_readonly("shape", [](const PyValue& v) { return tuple_of(v.node().type.shape); })
      .def_property_readonly(
          "dtype", [](const PyValue& v) { return dtype_name(v.node().type.dtype); },
          "\"fp16\", \"fp32\", \"int32\" or \"bool\".")
      .def_property_readonly("attrs", node_attrs, "Attributes, complete and canonical.")
      .def_property_readonly("operands", node_operands,
                             "Operands in the op table's order; None where absent.")
      .def_property_readonly("value", node_constant,
                             "A constant's value as a read-only array; None otherwise.")
      .def_property_readonly("graph", [](const PyValue& v) { return v.graph; })
      .def("__eq__",
           [](const PyValue& a, const py::object& other) {
             if (!py::isinstance<PyValue>(other)) return false;
             const auto& b = other.cast<const PyValue&>();
             return a.graph == b.graph && a.id == b.id;
           })
      .def("__hash__",
           [](const PyValue& v) {
             return py::hash(py::make_tuple(reinterpret_cast<std::uintptr_t>(v.graph.get()), v.id));
           })
      .def("__repr__",
           [](const PyValue& v) { return str("<Value ", v.node().name, ": ", v.node().type, ">"); });
}

}  // namespace

void bind_graph(py::module_& m) {
  py::class_<Graph, GraphPtr> graph(m, "Graph", "A program as data: append-only nodes with static types.");
  bind_value(m);
  graph
      .def(py::init<std::string>(), py::arg("name") = "main",
           "An empty graph; `name` is its function's name in MIL text.")
      .def(
          "input",
          [](const GraphPtr& g, const std::string& name, const py::object& shape, const std::string& dtype) {
            return value_of(g, g->input(name, {dtype_argument(dtype), shape_of(shape)}));
          },
          py::arg("name"), py::arg("shape"), py::arg("dtype") = "fp32", "A run-time input, bound by name.")
      .def(
          "weight",
          [](const GraphPtr& g, const std::string& name, const py::object& shape, const std::string& dtype) {
            return value_of(g, g->weight(name, {dtype_argument(dtype), shape_of(shape)}));
          },
          py::arg("name"), py::arg("shape"), py::arg("dtype") = "fp32",
          "A named tensor given when the program is compiled.")
      .def(
          "constant",
          [](const GraphPtr& g, const py::object& value, const std::optional<std::string>& dtype,
             const std::string& name) {
            return value_of(
                g,
                constant_from(g, value, dtype ? std::optional(dtype_argument(*dtype)) : std::nullopt, name));
          },
          py::arg("value"), py::arg("dtype") = py::none(), py::arg("name") = "",
          "A constant from a number (fp32 unless `dtype` says else) or an array (copied).")
      .def(
          "output",
          [](const GraphPtr& g, const std::string& name, const PyValue& value) {
            if (value.graph != g) fail("output '", name, "': the value belongs to another graph");
            g->output(name, g->value(value.id));
          },
          py::arg("name"), py::arg("value"), "Names a result of the program.")
      .def("gradient", graph_gradient, py::arg("loss"), py::arg("wrt"),
           "Extends the graph with the gradient of a scalar with respect to each value of `wrt`.")
      .def("evaluate", evaluate_graph, py::arg("inputs"), py::arg("weights") = py::dict(),
           "Runs the graph by the op table's reference kernels: slow, obviously right.")
      .def(
          "optimize", [](const Graph& g) { return std::make_shared<Graph>(optimize(g)); },
          "A simpler graph with the same results.")
      .def("expand", expanded, py::arg("ops") = py::none(),
           "Composite ops (those named, or all) replaced by simpler ones.")
      .def(
          "verify", [](const Graph& g) { verify(g); }, "Raises Error if the graph is not well formed.")
      .def_property_readonly("name", [](const Graph& g) { return g.name(); })
      .def_property_readonly("inputs", [](const GraphPtr& g) { return ports(g, g->inputs()); })
      .def_property_readonly("outputs", graph_outputs)
      .def_property_readonly("weights", graph_weights)
      .def_property_readonly("nodes", graph_nodes)
      .def(
          "same_structure", [](const Graph& a, const Graph& b) { return same_structure(a, b); },
          py::arg("other"), "True if both compute the same in the same way, node names aside.")
      .def("__len__", [](const Graph& g) { return g.size(); })
      .def("__str__", [](const Graph& g) { return to_text(g); })
      .def("__repr__", [](const Graph& g) { return str("<Graph ", g.name(), ": ", g.size(), " nodes>"); });
  m.def("op_table", op_table, "Every op: name, doc, args, attrs.");
  m.def("split", split_value, py::arg("x"), py::arg("num_splits"), py::arg("axis"), py::arg("split_sizes"),
        "A value cut into slices.");
  m.def("call", call, py::arg("op"), py::arg("operands"), py::arg("attrs"), py::arg("name"),
        "Appends an op to the graph of its operands.");
}

}  // namespace orion
