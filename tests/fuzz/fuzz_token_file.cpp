// Any bytes are refused with an Error or are tokens that end where the file ends.
#include "orion/error.h"
#include "run/token_layout.h"

#include <cstdlib>

using namespace orion;

namespace {

void read_layout(std::span<const std::byte> file, TokenFormat format) {
  try {
    const TokenLayout layout = token_layout(file, "file.bin", format);
    const auto width = static_cast<std::uint64_t>(layout.width);
    if ((width != 2 && width != 4) || layout.begin % width != 0 || layout.count == 0) std::abort();
    if (layout.count > file.size() || layout.begin + layout.count * width != file.size()) std::abort();
    if (layout.facts) check_facts(*layout.facts, "file.bin");
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  for (const TokenFormat format : {TokenFormat::automatic, TokenFormat::u16, TokenFormat::u32})
    read_layout(bytes, format);
  return 0;
}
