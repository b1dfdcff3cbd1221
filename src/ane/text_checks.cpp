// Limits that only a program's text shows: how parameters are written, what files are named, ops that graphs
// do not have.
#include "ane/checks.h"
#include "orion/error.h"
#include "orion/op.h"

#include <algorithm>
#include <set>

namespace orion::ane {
namespace {

using mil::Argument;
using mil::BlobReference;
using mil::Function;
using mil::Literal;
using mil::Reference;
using mil::Statement;
using Places = std::vector<std::string>;

std::string place(const Statement& statement, std::string_view what) {
  const std::string_view result = statement.results.empty() ? "" : statement.results.front().name;
  return str(statement.op, " '", result, "' (line ", statement.place.line, ") ", what);
}

const Argument* argument(const Statement& statement, std::string_view name) {
  const auto found = std::ranges::find(statement.arguments, name, &Argument::name);
  return found == statement.arguments.end() ? nullptr : &*found;
}

bool is_literal(const Argument& given) {
  return std::holds_alternative<Literal>(given.values.front());
}

// The statement that defines a variable; null for inputs.
const Statement* definition(const Function& function, std::string_view name) {
  for (const Statement& statement : function.body)
    for (const mil::Declaration& result : statement.results)
      if (result.name == name) return &statement;
  return nullptr;
}

bool is_constant(const Function& function, const Argument& given) {
  if (is_literal(given)) return true;
  const Statement* source = definition(function, std::get<Reference>(given.values.front()).name);
  return source != nullptr && source->op == "const";
}

template <class Fault>
Places statements_of(const Function& function, std::string_view op, const Fault& fault) {
  Places places;
  for (const Statement& statement : function.body)
    if (statement.op == op)
      if (const std::string what = fault(statement); !what.empty()) places.push_back(place(statement, what));
  return places;
}

std::string first_inline(const Statement& statement, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    if (const Argument* given = argument(statement, name); given != nullptr && is_literal(*given))
      return str("has ", name, " written in the call");
  return "";
}

std::string first_missing(const Statement& statement, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    if (argument(statement, name) == nullptr) return str("has no ", name);
  return "";
}

Places concat_arguments(const Function& function, const Profile&) {
  return statements_of(function, "concat", [](const Statement& statement) {
    const std::string missing = first_missing(statement, {"axis", "interleave"});
    return missing.empty() ? first_inline(statement, {"axis", "interleave"}) : missing;
  });
}

Places matmul_flags(const Function& function, const Profile&) {
  return statements_of(function, "matmul", [](const Statement& statement) {
    return first_inline(statement, {"transpose_x", "transpose_y"});
  });
}

Places dead_outputs(const Function& function, const Profile&) {
  Places places;
  for (const Reference& output : function.outputs) {
    const Statement* source = definition(function, output.name);
    if (source == nullptr || source->op == "const")
      places.push_back(
          str("output '", output.name, "' (line ", output.place.line, ") is no operation's result"));
  }
  return places;
}

Places missing_epsilon(const Function& function, const Profile&) {
  return statements_of(function, "log", [](const Statement& s) { return first_missing(s, {"epsilon"}); });
}

// The element type of a value, empty if the text does not say.
std::string_view named_element(const Function& function, std::string_view name) {
  for (const mil::Declaration& input : function.inputs)
    if (input.name == name) return input.type.element;
  const Statement* source = definition(function, name);
  if (source == nullptr) return "";
  return std::ranges::find(source->results, name, &mil::Declaration::name)->type.element;
}

std::string_view element(const Function& function, const Argument& given) {
  if (is_literal(given)) return std::get<Literal>(given.values.front()).type.element;
  return named_element(function, std::get<Reference>(given.values.front()).name);
}

Places epsilon_type(const Function& function, const Profile&) {
  return statements_of(function, "layer_norm", [&](const Statement& statement) -> std::string {
    const Argument* epsilon = argument(statement, "epsilon");
    const Argument* gamma = argument(statement, "gamma");
    if (epsilon == nullptr || gamma == nullptr) return "";
    const std::string_view given = element(function, *epsilon);
    const std::string_view wanted = element(function, *gamma);
    return given == wanted ? "" : str("has an epsilon of ", given, " and a gamma of ", wanted);
  });
}

template <class Wanted>
Places ops_where(const Function& function, const Wanted& wanted) {
  Places places;
  for (const Statement& statement : function.body)
    if (wanted(statement.op)) places.push_back(place(statement, "is in the program"));
  return places;
}

Places tiles(const Function& function, const Profile&) {
  return ops_where(function, [](std::string_view op) { return op == "tile"; });
}

// The others are nodes, which have a check of their own.
Places without_engine(const Function& function, const Profile&) {
  return ops_where(function, [](std::string_view op) { return lacks_engine(op) && find_op(op) == nullptr; });
}

Places compressed(const Function& function, const Profile&) {
  return ops_where(function, [](std::string_view op) { return op.starts_with("constexpr_"); });
}

Places int8_ports(const Function& function, const Profile&) {
  Places places;
  for (const mil::Declaration& input : function.inputs)
    if (input.type.element == "int8")
      places.push_back(str("input '", input.name, "' (line ", input.place.line, ") is of int8"));
  for (const Reference& output : function.outputs)
    if (named_element(function, output.name) == "int8")
      places.push_back(str("output '", output.name, "' (line ", output.place.line, ") is of int8"));
  return places;
}

Places runtime_scales(const Function& function, const Profile&) {
  Places places;
  for (const std::string_view op : {"quantize", "dequantize"})
    for (std::string& found : statements_of(function, op, [&](const Statement& statement) -> std::string {
           const Argument* scale = argument(statement, "scale");
           return scale == nullptr || is_constant(function, *scale) ? "" : "has a scale that is no constant";
         }))
      places.push_back(std::move(found));
  return places;
}

template <class Act>
void for_each_blob(const Function& function, const Act& act) {
  for (const Statement& statement : function.body)
    if (statement.value)
      if (const auto* blob = std::get_if<BlobReference>(&statement.value->value)) act(statement, *blob);
}

Places several_files(const Function& function, const Profile& profile) {
  std::set<std::string> paths;
  for_each_blob(function, [&](const Statement&, const BlobReference& blob) { paths.insert(blob.path); });
  const std::int64_t most = profile.weight_files_per_program;
  if (most == 0 || static_cast<std::int64_t>(paths.size()) <= most) return {};
  return {str("the program reads ", paths.size(), " weight files, ", *paths.begin(), " and others; ", most,
              " is possible")};
}

Places odd_offsets(const Function& function, const Profile&) {
  constexpr std::uint64_t chunk_alignment = 64;
  Places places;
  for_each_blob(function, [&](const Statement& statement, const BlobReference& blob) {
    if (blob.offset < chunk_alignment || blob.offset % chunk_alignment != 0)
      places.push_back(place(statement, str("has offset ", blob.offset)));
  });
  return places;
}

}  // namespace

std::span<const TextCheck> text_checks() {
  static constexpr TextCheck checks[] = {
      {"concat-arguments-named", concat_arguments},
      {"matmul-flags-named", matmul_flags},
      {"outputs-live", dead_outputs},
      {"tile-poisons", tiles},
      {"log-epsilon", missing_epsilon},
      {"layer-norm-epsilon-type", epsilon_type},
      {"ops-without-engine", without_engine},
      {"compressed-constants-rejected", compressed},
      {"quantize-scale-constant", runtime_scales},
      {"int8-ports", int8_ports},
      {"one-weight-file", several_files},
      {"blob-offset", odd_offsets},
  };
  return checks;
}

}  // namespace orion::ane
