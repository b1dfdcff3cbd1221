// Any text is refused with an Error or gives a graph whose own text is stable.
#include "orion/error.h"
#include "orion/mil.h"

#include <cstdlib>
#include <optional>

namespace {

// Its text, or nothing if it has an interface that MIL cannot state.
std::optional<std::string> text_of(const orion::Graph& graph) {
  try {
    return orion::mil::emit(graph);
  } catch (const orion::Error&) {
    return std::nullopt;
  }
}

std::optional<orion::Graph> graph_of(std::string_view text) {
  try {
    return orion::mil::parse(text);
  } catch (const orion::Error&) {
    return std::nullopt;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::optional<orion::Graph> graph = graph_of({reinterpret_cast<const char*>(data), size});
  if (!graph) return 0;
  orion::verify(*graph);
  const std::optional<std::string> text = text_of(*graph);
  if (text && orion::mil::emit(orion::mil::parse(*text)) != *text) std::abort();
  return 0;
}
