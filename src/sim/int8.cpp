#include "sim/int8.h"

#include "mil/syntax.h"

#include <algorithm>
#include <map>

namespace orion::sim {
namespace {

// What stands at each place of the text, by its beginning, and what shall stand there.
using Changes = std::map<const char*, std::pair<std::string_view, std::string_view>>;

void change(Changes& changes, std::string_view from, std::string_view to) {
  changes[from.data()] = {from, to};
}

const mil::Reference* int8_operand(const mil::Argument& argument, const HalfForm& form) {
  for (const mil::Operand& operand : argument.values)
    if (const auto* name = std::get_if<mil::Reference>(&operand);
        name && form.int8_inputs.contains(name->name))
      return name;
  return nullptr;
}

bool is_plain_dequantize(const mil::Statement& statement) {
  const auto& arguments = statement.arguments;
  return statement.op == "dequantize" && arguments.size() == 2 && arguments[0].name == "input" &&
         arguments[1].name == "scale";
}

void change_uses(const mil::Function& function, const HalfForm& form, Changes& changes) {
  for (const mil::Statement& statement : function.body) {
    const auto used = std::ranges::find_if(
        statement.arguments, [&](const mil::Argument& a) { return int8_operand(a, form) != nullptr; });
    if (used == statement.arguments.end()) continue;
    if (!is_plain_dequantize(statement) || used != statement.arguments.begin())
      mil::fail_at(statement.place, "the simulator takes the int8 input '", int8_operand(*used, form)->name,
                   "' in dequantize(input, scale) only");
    change(changes, statement.op, "mul");
    change(changes, statement.arguments[0].name, "x");
    change(changes, statement.arguments[1].name, "y");
  }
  for (const mil::Reference& output : function.outputs)
    if (form.int8_inputs.contains(output.name))
      mil::fail_at(output.place, "the int8 input '", output.name, "' is an output");
}

}  // namespace

HalfForm int8_as_half(std::string_view text) {
  HalfForm form;
  Changes changes;
  for (const mil::Function& function : mil::read_syntax(text)) {
    for (const mil::Declaration& input : function.inputs) {
      if (input.type.element != "int8") continue;
      form.int8_inputs.emplace(input.name);
      change(changes, input.type.element, "fp16");
    }
    change_uses(function, form, changes);
  }
  const char* rest = text.data();
  for (const auto& [begin, replacement] : changes) {
    form.text.append(rest, begin);
    form.text += replacement.second;
    rest = begin + replacement.first.size();
  }
  form.text.append(rest, text.data() + text.size());
  return form;
}

}  // namespace orion::sim
