// What is known of the engine: limits, profiles, checks and probes.
#include "python/bindings.h"
#include "python/convert.h"

#include "ane/device.h"
#include "ane/legal_program.h"
#include "ane/probe.h"
#include "ane/profile_fields.h"
#include "orion/error.h"

namespace py = pybind11;

namespace orion {
namespace {

using Checked = std::variant<GraphPtr, std::string>;  // a graph, or MIL text

py::dict row_of(const ane::Limit& limit, std::string_view family) {
  py::dict row;
  row["id"] = limit.id;
  row["family"] = family;
  row["paper"] = limit.paper == 0 ? py::object(py::none()) : py::int_(limit.paper);
  row["rule"] = limit.rule;
  row["symptom"] = limit.symptom;
  row["action"] = limit.action;
  row["where"] = limit.where;
  row["evidence"] = limit.evidence;
  row["effect"] = ane::effect_name(limit.effect);
  row["confidence"] = ane::confidence_name(limit.confidence);
  row["probe"] = limit.probe;
  return row;
}

py::list limits() {
  py::list rows;
  for (const ane::LimitFamily& family : ane::limit_families())
    for (const ane::Limit& limit : family.limits) rows.append(row_of(limit, family.name));
  return rows;
}

py::list families() {
  py::list rows;
  for (const ane::LimitFamily& family : ane::limit_families())
    rows.append(py::make_tuple(family.name, family.doc));
  return rows;
}

py::dict dict_of(const ane::Profile& profile) {
  py::dict row;
  row["name"] = profile.name;
  row["doc"] = profile.doc;
  row["limits"] = profile.limits;
  for (const ane::NumberField& field : ane::number_fields) row[py::str(field.name)] = profile.*field.member;
  for (const ane::FlagField& field : ane::flag_fields) row[py::str(field.name)] = profile.*field.member;
  return row;
}

py::list profiles() {
  py::list rows;
  for (const ane::Profile& profile : ane::all_profiles()) rows.append(dict_of(profile));
  return rows;
}

py::list profile_fields() {
  py::list rows;
  for (const ane::NumberField& field : ane::number_fields) rows.append(py::make_tuple(field.name, field.doc));
  for (const ane::FlagField& field : ane::flag_fields) rows.append(py::make_tuple(field.name, field.doc));
  return rows;
}

template <class T>
T value_of(const py::dict& row, std::string_view key) {
  const py::str name{key};
  if (!row.contains(name)) fail("profile: '", key, "' is missing");
  try {
    return row[name].cast<T>();
  } catch (const py::cast_error&) {
    fail("profile: '", key, "' is ", std::string(py::repr(row[name])));
  }
}

ane::Profile profile_of(const py::dict& row) {
  ane::Profile profile{.name = value_of<std::string>(row, "name"),
                       .doc = value_of<std::string>(row, "doc"),
                       .limits = value_of<std::vector<std::string>>(row, "limits")};
  for (const ane::NumberField& field : ane::number_fields)
    profile.*field.member = value_of<std::int64_t>(row, field.name);
  for (const ane::FlagField& field : ane::flag_fields)
    profile.*field.member = value_of<bool>(row, field.name);
  return profile;
}

std::vector<std::pair<std::string_view, std::string>> violations(const Checked& program,
                                                                 const std::string& profile_name) {
  const py::gil_scoped_release release;
  const ane::Profile& profile = ane::find_profile(profile_name);
  const auto* graph = std::get_if<GraphPtr>(&program);
  std::vector<std::pair<std::string_view, std::string>> rows;
  for (const ane::Violation& violation : graph != nullptr
                                             ? ane::violations(**graph, profile)
                                             : ane::violations(std::get<std::string>(program), profile))
    rows.emplace_back(violation.limit->id, violation.where);
  return rows;
}

void refuse_violations(const Checked& program, const std::string& profile_name) {
  const py::gil_scoped_release release;
  const ane::Profile& profile = ane::find_profile(profile_name);
  if (const auto* graph = std::get_if<GraphPtr>(&program))
    ane::verify_ane(**graph, profile);
  else
    ane::verify_ane(std::get<std::string>(program), profile);
}

GraphPtr legalize(const GraphPtr& graph, const std::string& profile) {
  const py::gil_scoped_release release;
  return std::make_shared<Graph>(ane::legalize(*graph, ane::find_profile(profile)));
}

// The legal graph, and its weights from those of the original.
py::tuple legal_program(const GraphPtr& graph, const py::dict& weights, const std::string& profile) {
  const TensorMap sources = tensors_of(weights);
  GraphPtr legal;
  TensorMap values;
  {
    const py::gil_scoped_release release;
    ane::LegalProgram program = ane::legalize_program(*graph, ane::find_profile(profile));
    values = ane::legal_weights(program, sources);
    legal = std::make_shared<Graph>(std::move(program.graph));
  }
  py::dict arrays;
  for (const auto& [name, value] : values) arrays[py::str(name)] = numpy_view(value);
  return py::make_tuple(legal, arrays);
}

// -- probes ---------------------------------------------------------------------------------------

py::list probes() {
  py::list rows;
  for (const ane::Probe& probe : ane::all_probes()) {
    py::dict row;
    row["id"] = probe.id;
    row["question"] = probe.question;
    row["not_asked"] = probe.not_asked;
    rows.append(row);
  }
  return rows;
}

py::dict dict_of(const ane::ProbeResult& result) {
  py::dict found;
  for (const ane::Finding& finding : result.limits) found[py::str(finding.limit)] = finding.holds;
  py::dict row;
  row["chip"] = result.chip;
  row["build"] = result.build;
  row["probe"] = result.probe;
  row["question"] = result.question;
  row["result"] = ane::answer_name(result.result);
  row["detail"] = result.detail;
  row["ms"] = result.ms;
  row["limits"] = found;
  row["numbers"] = result.numbers;
  return row;
}

py::dict run_probe(const std::string& device_name, const std::string& id) {
  ane::ProbeResult result;
  {
    const py::gil_scoped_release release;
    auto* device = dynamic_cast<ane::AneDevice*>(&find_device(device_name));
    if (device == nullptr) fail("device '", device_name, "' has no engine to probe: ane, sim:PROFILE");
    result = ane::run_probe(device->runtime().engine(), id);
  }
  return dict_of(result);
}

// What the profile needs of a result.
ane::ProbeResult result_of(const py::dict& row) {
  ane::ProbeResult result;
  result.chip = row["chip"].cast<std::string>();
  result.build = row["build"].cast<std::string>();
  for (const auto& [id, holds] : row["limits"].cast<std::map<std::string, bool>>())
    result.limits.push_back({ane::limit(id).id, holds});
  result.numbers = row["numbers"].cast<std::map<std::string, std::int64_t>>();
  return result;
}

py::dict measured_profile(const std::vector<py::dict>& rows, const std::string& name) {
  std::vector<ane::ProbeResult> results;
  for (const py::dict& row : rows) results.push_back(result_of(row));
  return dict_of(ane::measured_profile(results, name));
}

}  // namespace

void bind_ane(py::module_& m) {
  m.def("limits", limits, "Every limit of the engine that is known, as dicts.");
  m.def("limit_families", families, "(name, doc) of the kinds of limits.");
  m.def("profiles", profiles, "The built-in profiles, as dicts.");
  m.def("profile_fields", profile_fields, "(name, doc) of a profile's numbers and flags.");
  m.def(
      "add_profile", [](const py::dict& row) { return ane::add_profile(profile_of(row)).name; },
      py::arg("profile"), "Makes a measured profile known by its name, which is returned.");
  m.def("violations", violations, py::arg("program"), py::arg("profile"),
        "(limit, where) of everything that a graph or MIL text crosses.");
  m.def("verify_ane", refuse_violations, py::arg("program"), py::arg("profile"),
        "Error naming the first limit that is crossed.");
  m.def("legalize", legalize, py::arg("graph"), py::arg("profile"), "The graph as the profile takes it.");
  m.def("legal_program", legal_program, py::arg("graph"), py::arg("weights"), py::arg("profile"),
        "The same, and {name: array} of its weights from those of the graph.");
  m.def("probes", probes, "Id and question of every probe, and why it is not asked.");
  m.def("run_probe", run_probe, py::arg("device"), py::arg("probe"), "Runs one probe; its result as a dict.");
  m.def("measured_profile", measured_profile, py::arg("results"), py::arg("name"),
        "The profile that follows from probe results.");
}

}  // namespace orion
