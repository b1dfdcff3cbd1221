#include "mil/syntax.h"

#include "base/f16.h"
#include "base/number.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

namespace orion::mil {
namespace {

enum class ElementKind : std::uint8_t { floating, integer, boolean, string };

struct ElementType {
  std::string_view name;
  ElementKind kind;
  std::int64_t lowest = 0;
  std::int64_t highest = 0;
};

template <class Integer>
constexpr ElementType integer_type(std::string_view name) {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  constexpr auto highest = std::numeric_limits<Integer>::max();
  return {name, ElementKind::integer, static_cast<std::int64_t>(std::numeric_limits<Integer>::min()),
          std::cmp_less(highest, most) ? static_cast<std::int64_t>(highest) : most};
}

constexpr std::array<ElementType, 13> element_types = {{
    {"fp16", ElementKind::floating},
    {"fp32", ElementKind::floating},
    {"fp64", ElementKind::floating},
    {"bool", ElementKind::boolean},
    {"string", ElementKind::string},
    integer_type<std::int8_t>("int8"),
    integer_type<std::int16_t>("int16"),
    integer_type<std::int32_t>("int32"),
    integer_type<std::int64_t>("int64"),
    integer_type<std::uint8_t>("uint8"),
    integer_type<std::uint16_t>("uint16"),
    integer_type<std::uint32_t>("uint32"),
    integer_type<std::uint64_t>("uint64"),
}};

const ElementType& element_type(const TypeName& type) {
  const auto* found = std::ranges::find(element_types, type.element, &ElementType::name);
  if (found == element_types.end()) fail_at(type.place, "unknown type '", type.element, "'");
  return *found;
}

bool overflows(std::string_view element, double value) {
  if (element == "fp64" || !std::isfinite(value)) return false;
  const auto narrow = static_cast<float>(value);
  return std::isinf(element == "fp16" ? round_to_half(narrow) : narrow);
}

// Whether the product of the sizes is `count`, without computing a product that overflows.
bool holds(std::span<const std::int64_t> sizes, std::size_t count) {
  if (std::ranges::find(sizes, 0) != sizes.end()) return count == 0;
  std::uint64_t product = 1;
  for (const std::int64_t size : sizes) {
    if (product > count / static_cast<std::uint64_t>(size)) return false;
    product *= static_cast<std::uint64_t>(size);
  }
  return product == count;
}

std::string unescaped(const Token& token) {
  std::string text;
  for (std::size_t i = 0; i < token.text.size(); ++i) {
    if (token.text[i] != '\\') {
      text += token.text[i];
      continue;
    }
    const char c = token.text[++i];  // the lexer saw to it that there is one
    if (c != '"' && c != '\\') fail_at(token.place, "an escape other than \\\" and \\\\ in a string");
    text += c;
  }
  return text;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : lexer_(text) {}

  std::vector<Function> program() {
    version();
    skip_attributes();
    lexer_.expect("{", "that opens the program");
    std::vector<Function> functions;
    while (!lexer_.accept("}")) functions.push_back(function());
    if (lexer_.peek().kind != TokenKind::end)
      fail_at(lexer_.peek().place, "the end of the text expected, found ", shown(lexer_.peek()));
    return functions;
  }

 private:
  void version() {
    lexer_.expect("program", "that MIL text begins with");
    lexer_.expect("(", "after program");
    const Token number = lexer_.expect(TokenKind::number, "a version number");
    if (!number.text.starts_with("1."))
      fail_at(number.place, "program version ", number.text, ", 1.x is known");
    lexer_.expect(")", "after the version");
  }

  Function function() {
    lexer_.expect("func", "or '}' in the program");
    const Token name = lexer_.expect(TokenKind::word, "a function name");
    Function result{.name = name.text, .place = name.place, .inputs = {}, .body = {}, .outputs = {}};
    lexer_.expect("<", "before the function's opset");
    lexer_.expect(TokenKind::word, "an opset such as ios18");
    lexer_.expect(">", "after the opset");
    lexer_.expect("(", "before the inputs");
    list(")", [&] { result.inputs.push_back(declaration()); });
    skip_attributes();
    lexer_.expect("{", "that opens the function");
    while (!lexer_.accept("}")) result.body.push_back(statement());
    lexer_.expect("->", "before the outputs");
    lexer_.expect("(", "before the outputs");
    list(")", [&] { result.outputs.push_back(reference()); });
    lexer_.accept(";");
    return result;
  }

  Statement statement() {
    Statement result{};
    do result.results.push_back(declaration());
    while (lexer_.accept(","));
    lexer_.expect("=", "after the result");
    const Token op = lexer_.expect(TokenKind::word, "an op");
    result.op = op.text;
    result.place = op.place;
    lexer_.expect("(", "after the op");
    list(")", [&] { result.arguments.push_back(argument()); });
    if (lexer_.peek().is("{")) fail_at(op.place, op.text, ": an op with a block of its own is not supported");
    if (lexer_.accept("[")) list("]", [&] { attribute(result); });
    lexer_.expect(";", "after the statement");
    return result;
  }

  Argument argument() {
    const Token name = lexer_.expect(TokenKind::word, "an argument name");
    Argument result{.name = name.text, .values = {}, .is_tuple = false, .place = name.place};
    lexer_.expect("=", "after the argument name");
    result.is_tuple = lexer_.accept("(");
    if (result.is_tuple)
      list(")", [&] { result.values.push_back(operand()); });
    else
      result.values.push_back(operand());
    return result;
  }

  // Of a statement. Those that do not matter to us may hold anything.
  void attribute(Statement& statement) {
    const Token name = lexer_.expect(TokenKind::word, "an attribute name");
    lexer_.expect("=", "after the attribute name");
    if (name.text == "name") {
      statement.label = string_literal();
    } else if (name.text == "val") {
      statement.value = literal(type());
    } else {
      skip_value();
    }
  }

  Operand operand() {
    const Token name = lexer_.expect(TokenKind::word, "a variable or a typed literal");
    if (lexer_.peek().is("(") || lexer_.peek().is("<")) return literal(type(name));
    return Reference{name.text, name.place};
  }

  Reference reference() {
    const Token name = lexer_.expect(TokenKind::word, "a variable");
    return {name.text, name.place};
  }

  Declaration declaration() {
    TypeName declared = type();
    element_type(declared);
    const Token name = lexer_.expect(TokenKind::word, "a variable name");
    return {std::move(declared), name.text, name.place};
  }

  TypeName type() { return type(lexer_.expect(TokenKind::word, "a type")); }

  TypeName type(const Token& word) {
    TypeName result{.element = word.text, .sizes = {}, .place = word.place};
    if (word.text != "tensor") return result;
    lexer_.expect("<", "after tensor");
    result.element = lexer_.expect(TokenKind::word, "an element type").text;
    lexer_.expect(",", "after the element type");
    lexer_.expect("[", "before the sizes");
    list("]", [&] { result.sizes.push_back(size()); });
    lexer_.expect(">", "after the sizes");
    if (result.sizes.size() > Shape::max_rank)
      fail_at(word.place, "a tensor with ", result.sizes.size(), " axes, at most ", Shape::max_rank,
              " are supported");
    return result;
  }

  std::int64_t size() {
    const Token token = lexer_.next();
    const std::optional<std::int64_t> value = read_integer(token.text);
    if (token.kind != TokenKind::number || !value || *value < 0)
      fail_at(token.place, "a fixed size expected, found ", shown(token));
    return *value;
  }

  Literal literal(TypeName type) {
    const ElementType& element = element_type(type);
    Literal result{.type = std::move(type), .value = {}};
    lexer_.expect("(", "after the type of a literal");
    if (lexer_.peek().is("BLOBFILE")) {
      result.value = blob();
    } else if (element.kind == ElementKind::string) {
      if (!result.type.sizes.empty()) fail_at(result.type.place, "a tensor of strings is not supported");
      result.value = unescaped(lexer_.expect(TokenKind::string, "a string"));
    } else if (element.kind == ElementKind::floating) {
      result.value = elements<double>(result.type, [&] { return floating(element); });
    } else {
      result.value = elements<std::int64_t>(result.type, [&] { return integer(element); });
    }
    lexer_.expect(")", "after the literal");
    return result;
  }

  // A scalar, a flat list of all elements, or lists nested as deep as the type has axes.
  template <class T, class ReadOne>
  std::vector<T> elements(const TypeName& type, const ReadOne& read_one) {
    std::vector<T> values;
    const Place place = lexer_.peek().place;
    nested(type.sizes, [&] { values.push_back(read_one()); });
    if (!holds(type.sizes, values.size())) fail_at(place, values.size(), " elements for a ", type_text(type));
    return values;
  }

  template <class ReadOne>
  void nested(std::span<const std::int64_t> sizes, const ReadOne& read_one) {
    if (sizes.empty()) return read_one();
    const Place place = lexer_.expect("[", "before the elements").place;
    const bool flat = !lexer_.peek().is("[");
    std::int64_t count = 0;
    list("]", [&] {
      nested(flat ? std::span<const std::int64_t>() : sizes.subspan(1), read_one);
      ++count;
    });
    if (!flat && count != sizes[0]) fail_at(place, count, " elements along an axis of size ", sizes[0]);
  }

  double floating(const ElementType& element) {
    const Token token = lexer_.next();
    const bool numeric = token.kind == TokenKind::number || token.kind == TokenKind::word;
    const std::optional<double> value = numeric ? read_float(token.text) : std::nullopt;
    if (!value) fail_at(token.place, "a number expected, found ", shown(token));
    if (overflows(element.name, *value)) fail_at(token.place, token.text, " does not fit ", element.name);
    return *value;
  }

  std::int64_t integer(const ElementType& element) {
    const Token token = lexer_.next();
    if (element.kind == ElementKind::boolean) {
      if (!token.is("true") && !token.is("false"))
        fail_at(token.place, "true or false expected, found ", shown(token));
      return token.is("true") ? 1 : 0;
    }
    const std::optional<std::int64_t> value =
        token.kind == TokenKind::number ? read_integer(token.text) : std::nullopt;
    if (!value || *value < element.lowest || *value > element.highest)
      fail_at(token.place, "a number that fits ", element.name, " expected, found ", shown(token));
    return *value;
  }

  // BLOBFILE(path = string("..."), offset = uint64(64))
  BlobReference blob() {
    const Place place = lexer_.next().place;
    std::optional<std::string> path;
    std::optional<std::uint64_t> offset;
    lexer_.expect("(", "after BLOBFILE");
    list(")", [&] {
      const Token name = lexer_.expect(TokenKind::word, "path or offset");
      lexer_.expect("=", "after the argument name");
      if (name.text == "path")
        path = string_literal();
      else if (name.text == "offset")
        offset = offset_literal();
      else
        fail_at(name.place, "BLOBFILE: no argument ", shown(name));
    });
    if (!path || !offset) fail_at(place, "BLOBFILE: path and offset are needed");
    return {*path, *offset};
  }

  std::string string_literal() {
    const Place place = lexer_.peek().place;
    const Literal text = scalar_literal();
    if (!std::holds_alternative<std::string>(text.value)) fail_at(place, "a string(\"...\") expected");
    return std::get<std::string>(text.value);
  }

  std::uint64_t offset_literal() {
    const Place place = lexer_.peek().place;
    const Literal number = scalar_literal();
    const auto* values = std::get_if<std::vector<std::int64_t>>(&number.value);
    if (values == nullptr || values->front() < 0) fail_at(place, "an offset uint64(...) expected");
    return static_cast<std::uint64_t>(values->front());
  }

  // Neither a list nor in a file, so that BLOBFILE cannot hold a BLOBFILE.
  Literal scalar_literal() {
    TypeName scalar = type();
    const ElementType& element = element_type(scalar);
    if (!scalar.sizes.empty()) fail_at(scalar.place, "a scalar expected, found ", type_text(scalar));
    Literal result{.type = scalar, .value = {}};
    lexer_.expect("(", "after the type of a literal");
    if (element.kind == ElementKind::string)
      result.value = unescaped(lexer_.expect(TokenKind::string, "a string"));
    else if (element.kind == ElementKind::floating)
      result.value = std::vector{floating(element)};
    else
      result.value = std::vector{integer(element)};
    lexer_.expect(")", "after the literal");
    return result;
  }

  // `item` separated by commas up to `close`.
  template <class Item>
  void list(std::string_view close, const Item& item) {
    if (lexer_.accept(close)) return;
    do item();
    while (lexer_.accept(","));
    lexer_.expect(close, "or ','");
  }

  // [buildInfo = ...] and its like.
  void skip_attributes() {
    if (!lexer_.accept("[")) return;
    while (!lexer_.accept("]")) {
      skip_value();
      lexer_.accept(",");
    }
  }

  // Everything up to a comma or the bracket that closes the list we are in.
  void skip_value() {
    std::string open;
    while (!open.empty() || (!lexer_.peek().is(",") && !lexer_.peek().is("]"))) {
      const Token token = lexer_.next();
      if (token.kind == TokenKind::end) fail_at(token.place, "an attribute that does not end");
      if (token.kind != TokenKind::symbol) continue;
      constexpr std::string_view openers = "([{<";
      constexpr std::string_view closers = ")]}>";
      if (const std::size_t i = openers.find(token.text); i != std::string_view::npos) open += closers[i];
      if (closers.find(token.text) == std::string_view::npos) continue;
      if (open.empty() || token.text[0] != open.back()) fail_at(token.place, shown(token), " closes nothing");
      open.pop_back();
    }
  }

  Lexer lexer_;
};

}  // namespace

std::vector<Function> read_syntax(std::string_view text) {
  return Reader(text).program();
}

std::string type_text(std::string_view element, std::span<const std::int64_t> sizes) {
  if (sizes.empty()) return std::string(element);
  std::string list;
  for (const std::int64_t size : sizes) list += (list.empty() ? "" : ", ") + std::to_string(size);
  return str("tensor<", element, ", [", list, "]>");
}

std::string type_text(const TypeName& type) {
  return type_text(type.element, type.sizes);
}

std::string type_text(const TensorType& type) {
  return type_text(dtype_name(type.dtype), {type.shape.begin(), type.shape.end()});
}

}  // namespace orion::mil
