// `<file>.names`: what a weight file cannot say about its chunks.
#pragma once

#include "orion/weight_file.h"

namespace orion::weights {

std::filesystem::path names_path(const std::filesystem::path& weight_file);

/// Whether the entries have names. Error if only some have, if two share one, or if one cannot stand
/// in a line of text.
bool are_named(std::span<const Entry> entries);

std::string names_text(std::span<const Entry> entries, std::span<const std::uint64_t> offsets);

}  // namespace orion::weights
