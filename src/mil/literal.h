// What literals of MIL text stand for.
#pragma once

#include "mil/syntax.h"
#include "orion/op.h"

namespace orion::mil {

/// Error unless graphs have the type.
TensorType tensor_type(const TypeName& type);

/// Error if it is a string, in a file, or of a type that graphs do not have.
Tensor tensor_from(const Literal& literal);

/// Error, naming op and attribute, if the literal is of another kind.
Attr attr_from(const Literal& literal, AttrKind kind, std::string_view op, std::string_view attr);

}  // namespace orion::mil
