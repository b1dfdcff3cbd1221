// Ops of MIL that graphs do not have, as what they become when a text is read.
#pragma once

#include "orion/op.h"

namespace orion::mil {

struct ForeignCall {
  std::vector<Value> in;  // in the order of `args`, empty where not given
  AttrMap attrs;          // those given
  std::size_t results = 1;

  /// Null if not given.
  const std::vector<std::int64_t>* list(std::string_view attr) const;
  std::optional<std::int64_t> integer(std::string_view attr) const;
};

struct ForeignOp {
  std::string_view name;
  std::vector<ArgDef> args;
  std::vector<AttrDef> attrs;
  std::vector<Value> (*build)(const ForeignCall&);
};

/// Null if there is none of that name.
const ForeignOp* find_foreign_op(std::string_view name);

}  // namespace orion::mil
