// MIL text as a tree: what is written, before it means anything.
#pragma once

#include "mil/lexer.h"
#include "orion/tensor.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace orion::mil {

// Names are views into the text.

/// `fp16`, or `tensor<fp16, [1, 64]>`. Without sizes: a scalar.
struct TypeName {
  std::string_view element;
  std::vector<std::int64_t> sizes;
  Place place;
};

struct BlobReference {
  std::string path;
  std::uint64_t offset = 0;
};

/// `TYPE(...)`. Integers and bools are held as int64, within their type's range.
struct Literal {
  TypeName type;
  std::variant<std::vector<std::int64_t>, std::vector<double>, std::string, BlobReference> value;
};

struct Reference {
  std::string_view name;
  Place place;
};

using Operand = std::variant<Reference, Literal>;

/// `name = value` or `name = (value, value)`.
struct Argument {
  std::string_view name;
  std::vector<Operand> values;
  bool is_tuple = false;
  Place place;
};

/// `TYPE name`.
struct Declaration {
  TypeName type;
  std::string_view name;
  Place place;
};

/// `TYPE name, ... = op(arguments)[name = label, val = value];`
struct Statement {
  std::vector<Declaration> results;
  std::string_view op;
  Place place;  // of the op
  std::vector<Argument> arguments;
  std::optional<std::string> label;
  std::optional<Literal> value;
};

struct Function {
  std::string_view name;
  Place place;
  std::vector<Declaration> inputs;
  std::vector<Statement> body;
  std::vector<Reference> outputs;
};

/// The functions of a program; Error with line and column if the text is not MIL.
std::vector<Function> read_syntax(std::string_view text);

/// As MIL writes a type: `fp16` or `tensor<fp16, [1, 64]>`.
std::string type_text(std::string_view element, std::span<const std::int64_t> sizes);
std::string type_text(const TypeName& type);
std::string type_text(const TensorType& type);

}  // namespace orion::mil
