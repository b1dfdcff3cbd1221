#include "ane/packed_program.h"

#include "mil/blob_places.h"
#include "orion/device.h"
#include "orion/error.h"

#include <algorithm>
#include <map>

namespace orion::ane {
namespace {

mil::Function only_function(const std::vector<mil::Function>& functions) {
  if (functions.size() != 1) fail("MIL text: ", functions.size(), " functions, one is needed");
  return functions.front();
}

// The constants in the file, where packing puts them.
void read_weights(const mil::Function& function, std::span<const std::string> names, Unpacked& result) {
  const std::vector<mil::BlobPlace> places = mil::blob_places(function);
  if (places.size() != names.size())
    fail("the text reads ", places.size(), " tensors from its weight file, ", names.size(), " are named");
  std::vector<std::uint64_t> sizes;
  for (const mil::BlobPlace& place : places) sizes.push_back(place.type.bytes());
  const std::vector<std::uint64_t> offsets = weights::layout(sizes);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const mil::BlobPlace& place = places[i];
    if (place.path != weight_path || place.offset != offsets[i])
      fail("the text reads '", place.name, "' from ", place.path, " at ", place.offset, ", ", weight_path,
           " at ", offsets[i], " is where it is packed");
    result.program.weights.push_back({place.name, names[i], {}, place.type, place.type});
    result.blueprint.entries.push_back({place.name, place.type, {}, place.offset});
  }
}

void check_share(const PortUse& use) {
  const Shape& source = use.source_type.shape;
  if (use.count == 0) return;
  const bool has_axis = use.axis >= 0 && use.axis < source.rank();
  if (!has_axis || use.begin < 0 || use.count < 1 || use.begin > source[use.axis] - use.count)
    fail("port '", use.name, "': elements ", use.begin, " to ", use.begin + use.count, " of axis ", use.axis,
         " are no share of ", use.source_type);
}

void complete(PortUse& use, const TensorType& type) {
  check_share(use);
  use.type = type;
  use.shape = four_axes(part_type(use).shape);
  bool fits = type.shape.rank() == 4 && is_float(type.dtype) && is_float(use.source_type.dtype);
  for (int axis = 0; fits && axis < 4; ++axis)
    fits = axis == 0 ? use.shape[0] == 1 && type.shape[0] == 1 : use.shape[axis] <= type.shape[axis];
  if (!fits) fail("port '", use.name, "' is ", type, " in the text, which does not hold ", part_type(use));
}

// Gives every port of the text its use.
void complete(std::vector<PortUse>& uses, std::span<const Port> ports, std::string_view what) {
  if (uses.size() != ports.size())
    fail("the text has ", ports.size(), " ", what, "s, ", uses.size(), " are described");
  for (const Port& port : ports) {
    const auto is_it = [&](const PortUse& use) { return use.name == port.name; };
    if (std::ranges::count_if(uses, is_it) != 1)
      fail("the text has the ", what, " '", port.name, "', which must be described once");
    complete(*std::ranges::find_if(uses, is_it), port.type);
  }
}

// Shares follow one another from the first element to the last; what is not split has one use.
void check_sources(std::vector<PortUse> uses) {
  std::ranges::sort(uses, {}, [](const PortUse& use) { return std::pair(use.source, use.begin); });
  for (std::size_t i = 0; i < uses.size();) {
    const PortUse& first = uses[i];
    std::int64_t next = 0;
    std::size_t end = i;
    for (; end < uses.size() && uses[end].source == first.source; ++end) {
      const PortUse& use = uses[end];
      const bool follows =
          use.axis == first.axis && use.begin == next && use.source_type == first.source_type;
      if (!follows || (use.count == 0 && end > i)) fail("the ports of '", use.source, "' do not make it up");
      next += use.count;
    }
    if (first.count > 0 && next != first.source_type.shape[first.axis])
      fail("the ports of '", first.source, "' hold ", next, " of ", first.source_type.shape[first.axis]);
    i = end;
  }
}

}  // namespace

Unpacked unpack(const PackedProgram& packed) {
  Unpacked result;
  const std::vector<mil::Function> functions = mil::read_syntax(packed.text);
  read_weights(only_function(functions), packed.weights, result);
  result.blueprint.text = packed.text;
  LegalProgram& program = result.program;
  program.graph = mil::parse(packed.text);
  program.inputs = packed.inputs;
  program.outputs = packed.outputs;
  complete(program.inputs, input_ports(program.graph), "input");
  complete(program.outputs, output_ports(program.graph), "output");
  check_sources(program.inputs);
  check_sources(program.outputs);
  return result;
}

}  // namespace orion::ane
