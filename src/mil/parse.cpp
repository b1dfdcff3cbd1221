// MIL text -> graph.
#include "mil/foreign.h"
#include "mil/literal.h"
#include "mil/names.h"
#include "mil/syntax.h"
#include "orion/error.h"
#include "orion/mil.h"

#include <algorithm>
#include <unordered_map>

namespace orion::mil {
namespace {

// Says where in the text, if `act` finds fault.
template <class Act>
decltype(auto) placed(Place place, const Act& act) {
  try {
    return act();
  } catch (const Error& error) {
    fail_at(place, error.what());
  }
}

struct Variable {
  const Literal* literal = nullptr;  // of a constant
  Value value;                       // empty while a constant is not needed as a node
};

bool is_const(const Statement& statement) {
  return statement.op == "const";
}

bool in_file(const Literal& literal) {
  return std::holds_alternative<BlobReference>(literal.value);
}

// What an op takes, whether it is of the table or foreign.
struct Signature {
  std::string_view name;
  const std::vector<ArgDef>& args;
  const std::vector<AttrDef>& attrs;

  const AttrDef* attr(std::string_view wanted) const {
    const AttrDef* found = find(attrs, wanted);
    return found != nullptr && found->in_mil ? found : nullptr;
  }
  const ArgDef* arg(std::string_view wanted) const { return find(args, wanted); }

 private:
  template <class Def>
  static const Def* find(const std::vector<Def>& defs, std::string_view wanted) {
    const auto found = std::ranges::find(defs, wanted, &Def::name);
    return found == defs.end() ? nullptr : &*found;
  }
};

Signature signature(const Statement& statement) {
  if (const ForeignOp* foreign = find_foreign_op(statement.op))
    return {foreign->name, foreign->args, foreign->attrs};
  const OpDef& def = placed(statement.place, [&]() -> const OpDef& { return op(statement.op); });
  if (def.is_source()) fail_at(statement.place, "unknown op '", statement.op, "'");
  return {def.name, def.args, def.attrs};
}

class Builder {
 public:
  explicit Builder(const Function& function)
      : function_(function), graph_(std::string(function.name)), signatures_(signatures(function)) {}

  Graph run() {
    take_names();
    mark_operands();
    for (const Declaration& input : function_.inputs) {
      const TensorType type = tensor_type(input.type);
      define(input, {nullptr, placed(input.place, [&] { return graph_.input(input.name, type); })});
    }
    for (std::size_t i = 0; i < function_.body.size(); ++i) {
      if (is_const(function_.body[i]))
        constant(function_.body[i]);
      else
        operation(function_.body[i], *signatures_[i]);
    }
    for (const Reference& output : function_.outputs) {
      const Value value = operand(output);
      placed(output.place, [&] { graph_.output(output.name, value); });
    }
    if (function_.outputs.empty()) fail_at(function_.place, "function ", function_.name, " returns nothing");
    return std::move(graph_);
  }

 private:
  using Signatures = std::vector<std::optional<Signature>>;  // by statement; none for constants

  static Signatures signatures(const Function& function) {
    Signatures result;
    for (const Statement& statement : function.body)
      result.push_back(is_const(statement) ? std::nullopt : std::optional<Signature>(signature(statement)));
    return result;
  }

  // Nodes are called as their variables, except where a weight has that name.
  void take_names() {
    for (const Statement& statement : function_.body)
      if (is_const(statement) && statement.value && in_file(*statement.value))
        names_.take(weight_name(statement));
    for (const Declaration& input : function_.inputs) names_.take(input.name);
    for (const Statement& statement : function_.body)
      for (const Declaration& result : statement.results)
        node_names_.try_emplace(result.name, names_.unique(result.name));
  }

  static std::string weight_name(const Statement& statement) {
    return statement.label ? *statement.label : std::string(statement.results.front().name);
  }

  // Constants that some op takes as a tensor become nodes where they stand, so that order is kept.
  void mark_operands() {
    for (std::size_t i = 0; i < function_.body.size(); ++i) {
      if (!signatures_[i]) continue;
      for (const Argument& argument : function_.body[i].arguments) {
        if (signatures_[i]->attr(argument.name) != nullptr) continue;
        for (const Operand& value : argument.values)
          if (const auto* reference = std::get_if<Reference>(&value)) is_operand_.take(reference->name);
      }
    }
    for (const Reference& output : function_.outputs) is_operand_.take(output.name);
  }

  void define(const Declaration& declaration, const Variable& variable) {
    if (!variables_.try_emplace(declaration.name, variable).second)
      fail_at(declaration.place, "'", declaration.name, "' is defined twice");
  }

  Variable& variable(const Reference& reference) {
    const auto found = variables_.find(reference.name);
    if (found == variables_.end()) fail_at(reference.place, "'", reference.name, "' is not defined before");
    return found->second;
  }

  void constant(const Statement& statement) {
    if (statement.results.size() != 1 || !statement.value || !statement.arguments.empty())
      fail_at(statement.place, "const: one result and a val attribute are needed");
    const Declaration& result = statement.results.front();
    const Literal& literal = *statement.value;
    if (type_text(result.type) != type_text(literal.type))
      fail_at(result.place, "'", result.name, "' is declared ", type_text(result.type), ", its value is ",
              type_text(literal.type));
    Variable variable{&literal, {}};
    if (in_file(literal)) {
      const TensorType type = tensor_type(literal.type);
      variable.value = placed(statement.place, [&] { return graph_.weight(weight_name(statement), type); });
    } else if (is_operand_.has(result.name)) {
      variable.value = graph_.constant(tensor_from(literal), node_names_.at(result.name));
    }
    define(result, variable);
  }

  Value operand(const Reference& reference) { return variable(reference).value; }

  Value operand(const Statement& statement, const Argument& argument, const Operand& value) {
    if (const auto* reference = std::get_if<Reference>(&value)) return operand(*reference);
    const auto& literal = std::get<Literal>(value);
    if (in_file(literal)) fail_at(literal.type.place, "a BLOBFILE outside const");
    return graph_.constant(tensor_from(literal),
                           names_.unique(str(statement.results.front().name, '_', argument.name, "_0")));
  }

  Attr attribute(const Argument& argument, const AttrDef& def, std::string_view op) {
    if (argument.is_tuple) fail_at(argument.place, op, ": ", def.name, " is a tuple");
    const auto* literal = std::get_if<Literal>(&argument.values.front());
    if (const auto* reference = std::get_if<Reference>(&argument.values.front())) {
      literal = variable(*reference).literal;
      if (literal == nullptr || in_file(*literal))
        fail_at(argument.place, op, ": ", def.name, " must be a constant written out in the text");
    }
    return attr_from(*literal, def.kind, op, def.name);
  }

  struct Call {
    std::vector<Value> in;
    AttrMap attrs;
  };

  Call call(const Statement& statement, const Signature& op) {
    Call result;
    Names seen;
    for (const Argument& argument : statement.arguments) {
      if (seen.has(argument.name)) fail_at(argument.place, op.name, ": ", argument.name, " is given twice");
      seen.take(argument.name);
      if (const AttrDef* def = op.attr(argument.name))
        result.attrs.emplace(def->name, attribute(argument, *def, op.name));
      else if (op.arg(argument.name) == nullptr)
        fail_at(argument.place, op.name, ": no argument '", argument.name, "'");
    }
    for (const ArgDef& arg : op.args) {
      const auto given = std::ranges::find(statement.arguments, arg.name, &Argument::name);
      if (given == statement.arguments.end()) {
        if (arg.kind != ArgKind::optional)
          fail_at(statement.place, op.name, ": argument ", arg.name, " is missing");
        result.in.emplace_back();
        continue;
      }
      if (given->is_tuple && arg.kind != ArgKind::variadic)
        fail_at(given->place, op.name, ": ", arg.name, " is a tuple");
      for (const Operand& value : given->values) result.in.push_back(operand(statement, *given, value));
    }
    return result;
  }

  void operation(const Statement& statement, const Signature& op) {
    Call given = call(statement, op);
    const std::vector<Value> values =
        placed(statement.place, [&] { return results(statement, std::move(given)); });
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Declaration& result = statement.results[i];
      if (type_text(values[i].type()) != type_text(result.type))
        fail_at(result.place, statement.op, ": '", result.name, "' is declared ", type_text(result.type),
                ", the op gives ", type_text(values[i].type()));
      define(result, {nullptr, values[i]});
    }
  }

  std::vector<Value> results(const Statement& statement, Call given) {
    const std::size_t count = statement.results.size();
    if (const ForeignOp* foreign = find_foreign_op(statement.op)) {
      std::vector<Value> values = foreign->build({std::move(given.in), std::move(given.attrs), count});
      if (values.size() != count) fail(statement.op, ": ", values.size(), " results, ", count, " declared");
      return values;
    }
    if (count != 1) fail(statement.op, ": one result, ", count, " declared");
    const Value value =
        graph_.add(statement.op, given.in, given.attrs, node_names_.at(statement.results.front().name));
    const OpDef& def = *value.node().op;
    if (def.in_mil != nullptr && !def.in_mil(graph_, value.node())) fail(statement.op, ": not an op of MIL");
    return {value};
  }

  const Function& function_;
  Graph graph_;
  Signatures signatures_;
  Names names_;
  Names is_operand_;
  std::unordered_map<std::string_view, std::string> node_names_;  // by variable
  std::unordered_map<std::string_view, Variable> variables_;
};

const Function& chosen(const std::vector<Function>& functions, std::string_view name) {
  std::string known;
  const Function* found = nullptr;
  for (const Function& function : functions) {
    known += str(known.empty() ? "" : ", ", function.name);
    if (function.name != (name.empty() ? "main" : name)) continue;
    if (found != nullptr) fail_at(function.place, "function ", function.name, " is defined twice");
    found = &function;
  }
  if (found == nullptr && name.empty() && functions.size() == 1) found = &functions.front();
  if (functions.empty()) fail("MIL text: a program without functions");
  if (found == nullptr)
    fail("MIL text: no function '", name.empty() ? "main" : name, "', choose one of ", known);
  return *found;
}

}  // namespace

Graph parse(std::string_view text, std::string_view function) {
  const std::vector<Function> functions = read_syntax(text);
  return Builder(chosen(functions, function)).run();
}

}  // namespace orion::mil
