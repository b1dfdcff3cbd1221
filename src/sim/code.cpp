#include "sim/code.h"

#include "base/file.h"
#include "mil/literal.h"
#include "orion/error.h"
#include "orion/mil.h"
#include "sim/int8.h"
#include "sim/layout.h"
#include "sim/products.h"

#include <algorithm>
#include <cstring>

namespace orion::sim {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view model_path = "@model_path/";
constexpr std::size_t metadata_bytes = 64;

// -- text ----------------------------------------------------------------------------------------------

std::map<NodeId, mil::BlobPlace> blobs_by_node(const mil::Function& function, const Graph& graph) {
  std::map<NodeId, mil::BlobPlace> blobs;
  for (mil::BlobPlace& place : mil::blob_places(function)) {
    const NodeId id = graph.find(place.name).value();
    blobs.emplace(id, std::move(place));
  }
  return blobs;
}

const mil::Function& main_function(const std::vector<mil::Function>& functions) {
  const auto main = std::ranges::find(functions, "main", &mil::Function::name);
  if (main != functions.end()) return *main;
  if (functions.size() != 1) fail("MIL text: no function 'main' among ", functions.size());
  return functions.front();
}

// The compiler numbers symbols in alphabetical order (field survey L1).
using Symbols = std::map<std::string_view, TensorType>;

Symbols inputs_of(const mil::Function& function) {
  Symbols symbols;
  for (const mil::Declaration& input : function.inputs) symbols[input.name] = mil::tensor_type(input.type);
  return symbols;
}

const mil::TypeName& declared_type(const mil::Function& function, const mil::Reference& output) {
  for (const mil::Statement& statement : function.body)
    for (const mil::Declaration& result : statement.results)
      if (result.name == output.name) return result.type;
  for (const mil::Declaration& input : function.inputs)
    if (input.name == output.name) return input.type;
  mil::fail_at(output.place, "'", output.name, "' is not defined");
}

Symbols outputs_of(const mil::Function& function) {
  Symbols symbols;
  for (const mil::Reference& output : function.outputs)
    symbols[output.name] = mil::tensor_type(declared_type(function, output));
  return symbols;
}

void lay_out(Code& code, const mil::Function& function, const HalfForm& form, const ane::Profile& profile) {
  for (const auto& [name, type] : inputs_of(function)) {
    const bool is_int8 = form.int8_inputs.contains(name);
    code.layout.inputs.push_back(is_int8 ? int8_symbol_of(name, type, profile)
                                         : symbol_of(name, type, profile));
    code.input_types.push_back(type);
  }
  for (const auto& [name, type] : outputs_of(function)) {
    code.layout.outputs.push_back(symbol_of(str(name, "@output"), type, profile));
    code.output_types.push_back(type);
  }
}

std::vector<ane::Violation> violations_of(const HalfForm& form, const ane::Profile& profile) {
  constexpr std::string_view int8_limit = "int8-ports";
  std::vector<ane::Violation> found = ane::violations(form.text, profile);
  if (profile.has(int8_limit))
    for (const std::string& input : form.int8_inputs)
      found.push_back({&ane::limit(int8_limit), str("input '", input, "' is of int8")});
  return found;
}

// Whether a violation keeps the program from ever giving a result.
bool gives_result(const std::vector<ane::Violation>& violations) {
  using enum ane::Effect;
  return std::ranges::none_of(violations, [](const ane::Violation& violation) {
    const ane::Effect effect = violation.limit->effect;
    return effect == compile_error || effect == load_error || effect == hang_or_crash;
  });
}

// -- constants -----------------------------------------------------------------------------------------

// The compiler believes the text: the payload begins where that of a chunk with metadata at `offset`
// would, whether there is one or not (#8 of the paper). Beyond the file there are zeros.
Tensor read_blob(std::span<const std::byte> file, std::uint64_t offset, const TensorType& type) {
  const Tensor value(type);
  const std::uint64_t begin = offset + metadata_bytes;
  if (begin < offset || begin >= file.size()) return value;
  const auto from = file.subspan(static_cast<std::size_t>(begin));
  std::memcpy(value.data(), from.data(), std::min(from.size(), value.bytes()));
  return value;
}

fs::path file_of(const fs::path& directory, const mil::BlobPlace& blob) {
  const bool has_prefix = blob.path.starts_with(model_path);
  return has_prefix ? directory / blob.path.substr(model_path.size()) : fs::path(blob.path);
}

bool is_read_by_products_only(const Graph& graph, NodeId id) {
  bool used = false;
  for (const Node& node : graph.nodes()) {
    for (std::size_t arg = 0; arg < node.inputs.size(); ++arg) {
      if (node.inputs[arg] != id) continue;
      if (!is_product(node) || arg > 1) return false;
      used = true;
    }
  }
  const auto is_it = [&](const Output& output) { return output.node == id; };
  return used && std::ranges::none_of(graph.outputs(), is_it);
}

Tensor held(const Code& code, NodeId id, const Tensor& value) {
  const bool stays = value.dtype() == DType::fp16 && is_read_by_products_only(code.graph, id);
  return stays ? value : as_engine_values(value, code.arithmetic);
}

}  // namespace

namespace {

std::shared_ptr<Code> code_of(const mil::Function& function, const HalfForm& form,
                              const ane::Profile& profile) {
  auto code = std::make_shared<Code>();
  lay_out(*code, function, form, profile);
  code->arithmetic = arithmetic_of(profile);
  code->violations = violations_of(form, profile);
  if (!gives_result(code->violations)) return code;
  code->graph = mil::parse(form.text, function.name);
  code->blobs = blobs_by_node(function, code->graph);
  return code;
}

// Numbers the symbols on from those of the procedures before.
void number(ane::Layout& layout, const ane::Layout& whole, std::int64_t index) {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  if (index > 0) {
    inputs = whole.inputs.size();
    outputs = whole.outputs.size();
    for (const ane::Layout& before : whole.others) {
      inputs += before.inputs.size();
      outputs += before.outputs.size();
    }
  }
  layout.procedure.index = index;
  for (std::size_t i = 0; i < layout.inputs.size(); ++i)
    layout.procedure.inputs.push_back(static_cast<std::int64_t>(inputs + i));
  for (std::size_t i = 0; i < layout.outputs.size(); ++i)
    layout.procedure.outputs.push_back(static_cast<std::int64_t>(outputs + i));
}

}  // namespace

std::shared_ptr<const Code> make_code(std::string_view text, const ane::Profile& profile) {
  const HalfForm form = int8_as_half(text);
  const std::vector<mil::Function> functions = mil::read_syntax(form.text);
  const mil::Function& main = main_function(functions);
  std::shared_ptr<Code> code = code_of(main, form, profile);
  for (const mil::Function& function : functions)
    if (&function != &main) code->others.push_back(code_of(function, form, profile));
  return code;
}

std::shared_ptr<const Program> make_program(const std::shared_ptr<const Code>& code,
                                            const fs::path& directory) {
  auto program = std::make_shared<Program>(Program{code, read_constants(*code, directory), {}});
  for (const auto& other : code->others) program->others.push_back(make_program(other, directory));
  return program;
}

ane::Layout layout_of(const Code& code) {
  ane::Layout whole = code.layout;
  number(whole, whole, 0);
  for (const auto& other : code.others) {
    ane::Layout layout = other->layout;
    number(layout, whole, std::ssize(whole.others) + 1);
    whole.others.push_back(std::move(layout));
  }
  return whole;
}

std::vector<Tensor> read_constants(const Code& code, const fs::path& directory) {
  std::map<std::string, MappedFile, std::less<>> files;
  std::vector<Tensor> constants(static_cast<std::size_t>(code.graph.size()));
  for (NodeId id = 0; id < code.graph.size(); ++id) {
    const Node& node = code.graph.node(id);
    Tensor& constant = constants[static_cast<std::size_t>(id)];
    if (node.is("const")) constant = held(code, id, node.value);
    if (!node.is("weight")) continue;
    const mil::BlobPlace& blob = code.blobs.at(id);
    auto file = files.find(blob.path);
    if (file == files.end()) file = files.emplace(blob.path, MappedFile(file_of(directory, blob))).first;
    constant = held(code, id, read_blob(file->second.bytes(), blob.offset, node.type));
  }
  return constants;
}

}  // namespace orion::sim
