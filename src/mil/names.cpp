#include "mil/names.h"

#include "orion/op.h"

#include <algorithm>

namespace orion::mil {
namespace {

constexpr std::string_view mil_words[] = {
    "any",    "bf16",   "bool",   "const",  "dict",  "false",   "fp16",   "fp32",  "fp64",
    "func",   "int16",  "int32",  "int4",   "int64", "int8",    "list",   "none",  "program",
    "state",  "string", "tensor", "true",   "tuple", "uint1",   "uint16", "uint2", "uint3",
    "uint32", "uint4",  "uint6",  "uint64", "uint8", "BLOBFILE"};

constexpr std::string_view keywords[] = {
    "and",      "as",       "assert",  "async",    "auto",     "await",  "break",   "case",   "char",
    "class",    "continue", "def",     "default",  "del",      "do",     "double",  "elif",   "else",
    "enum",     "except",   "extern",  "finally",  "float",    "for",    "from",    "global", "goto",
    "if",       "import",   "in",      "inline",   "int",      "is",     "lambda",  "long",   "namespace",
    "new",      "nonlocal", "not",     "operator", "or",       "pass",   "private", "public", "raise",
    "register", "return",   "short",   "signed",   "sizeof",   "static", "struct",  "switch", "template",
    "this",     "try",      "typedef", "union",    "unsigned", "using",  "virtual", "void",   "volatile",
    "while",    "with",     "yield",   "None",     "True",     "False"};

// Reported for M1 (macOS 26): a variable of such a name silently breaks the program.
constexpr std::string_view broken_on_m1[] = {"c", "mean", "mul", "var", "x"};

bool contains(std::span<const std::string_view> words, std::string_view name) {
  return std::ranges::find(words, name) != words.end();
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

}  // namespace

std::string Names::unique(std::string_view wanted) {
  std::string name(wanted);
  for (int& suffix = next_[name]; taken_.contains(name); ++suffix)
    name = std::string(wanted) + "_" + std::to_string(suffix);
  taken_.insert(name);
  return name;
}

std::string Names::unique_inner(std::string_view wanted) {
  if (is_avoided(wanted)) take(wanted);
  return unique(wanted);
}

bool is_mil_word(std::string_view name) {
  return contains(mil_words, name);
}

bool is_avoided(std::string_view name) {
  return is_mil_word(name) || contains(keywords, name) || contains(broken_on_m1, name) ||
         find_op(name) != nullptr;
}

std::string identifier_from(std::string_view weight_name) {
  std::string name(weight_name);
  std::ranges::replace_if(name, [](char c) { return !is_letter(c) && (c < '0' || c > '9'); }, '_');
  if (name.empty() || !is_letter(name[0])) name.insert(0, "_");
  return name;
}

}  // namespace orion::mil
