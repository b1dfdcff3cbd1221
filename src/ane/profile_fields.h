// The numbers of a profile by name, for files and probes.
#pragma once

#include "orion/ane.h"

namespace orion::ane {

struct NumberField {
  std::string_view name;
  std::string_view doc;
  std::int64_t Profile::* member;
};

struct FlagField {
  std::string_view name;
  std::string_view doc;
  bool Profile::* member;
};

inline constexpr NumberField number_fields[] = {
    {"minimum_surface", "bytes of the smallest surface", &Profile::minimum_surface},
    {"row_alignment", "bytes, rows of a surface begin at multiples of it; 1: packed",
     &Profile::row_alignment},
    {"minimum_width", "elements along the last axis of inputs and outputs", &Profile::minimum_width},
    {"weights_per_program", "tensors in weight files; 0: no limit", &Profile::weights_per_program},
    {"weight_files_per_program", "0: no limit", &Profile::weight_files_per_program},
    {"compile_budget", "compilations of one process", &Profile::compile_budget},
    {"loaded_programs", "of one process at a time", &Profile::loaded_programs},
    {"largest_axis", "elements along any axis", &Profile::largest_axis},
    {"sram_bytes", "near the engine", &Profile::sram_bytes},
};

inline constexpr FlagField flag_fields[] = {
    {"reload_reads_files", "whether loading again takes changed weight files", &Profile::reload_reads_files},
    {"layout_reported", "whether a loaded model tells symbol order and strides", &Profile::layout_reported},
};

}  // namespace orion::ane
