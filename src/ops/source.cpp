// Nodes without operands: what enters a graph.
#include "ops/families.h"

namespace orion {

std::span<const OpDef> source_ops() {
  static const std::vector<OpDef> table = {
      {.name = "input", .doc = "A run-time input of the program, bound by name."},
      {.name = "weight",
       .doc = "A named tensor outside the graph, given when a program is compiled and replaceable after."},
      {.name = "const", .doc = "A constant that is part of the graph."},
  };
  return table;
}

}  // namespace orion
