// manifest.json of a package.
#pragma once

#include "ane/packed_program.h"
#include "orion/package.h"

namespace orion {

inline constexpr std::string_view manifest_file = "manifest.json";
inline constexpr std::string_view config_file = "config.json";

struct PackedSegment {
  SegmentShape shape;
  std::string text;  // the file
  std::vector<std::string> weights;
  // By name, source and share alone: the rest follows from the segment and the text.
  std::vector<ane::PortUse> inputs;
  std::vector<ane::PortUse> outputs;
};

struct Manifest {
  std::string version;  // of Orion
  std::string profile;
  std::vector<std::string> weights;  // files; each with its .names
  std::vector<PackedSegment> programs;
  std::vector<PackageFile> files;
};

/// Error beginning with `what` unless the text is a manifest that agrees with itself: every file that it
/// names lies in the package and is listed once, every segment is there once.
Manifest read_manifest(std::string_view text, std::string_view what);
std::string manifest_text(const Manifest& manifest);

/// Whether a path of a package's file is plain: letters, digits, `.`, `_` and `-`, in one directory at most,
/// no name beginning with a dot.
bool is_package_path(std::string_view path);

/// `weights/host.bin.names`
std::string names_file(std::string_view weight_file);

}  // namespace orion
