// The order of the rewrites that make a graph legal.
#include "ane/legalize_passes.h"
#include "orion/passes.h"

namespace orion::ane {
namespace {

// Ports of the original that were fp32 before `to_half`.
void restore_source_types(const Graph& original, LegalProgram& program) {
  for (PortUse& port : program.inputs)
    port.source_type = original.node(original.find(port.source).value()).type;
  for (PortUse& port : program.outputs)
    for (const Output& output : original.outputs())
      if (output.name == port.source) port.source_type = original.node(output.node).type;
}

}  // namespace

LegalProgram legalize_program(const Graph& graph, const Profile& profile) {
  check_port_types(graph, profile);
  // Composites first, in the original's precision: their small numbers are rounded once.
  Graph current = expand_for_engine(drop_broadcasts(optimize(graph)));
  current = to_half(scale_probabilities(current, profile));
  // Transposes that products bring along cancel before ops are counted and replaced.
  current = optimize(products_as_convolutions(optimize(current)));
  std::vector<SplitOutput> splits;
  current = optimize(split_channels(current, profile, splits));
  current = optimize(replace_rejected_ops(current, profile));
  // When no new product can appear any more.
  current = optimize(split_products(current, profile));
  LegalProgram program;
  current = own_results(optimize(legal_ports(current, profile, splits, program)));
  current = fold_weight_views(current, program.weights);
  current = scale_rows(current, profile, program.weights);
  program.graph = order_for_sram(current, profile.sram_bytes);
  restore_source_types(graph, program);
  verify_ane(program.graph, profile);
  return program;
}

Graph legalize(const Graph& graph, const Profile& profile) {
  return legalize_program(graph, profile).graph;
}

}  // namespace orion::ane
