// What is handed to the engine: a program's text and its one weight file.
#pragma once

#include "orion/mil.h"

#include <functional>

namespace orion::ane {

/// A legal graph as text, ready to be filled with weights.
struct Blueprint {
  std::string text;
  std::vector<mil::BlobEntry> entries;  // of the weight file, in order
};

Blueprint make_blueprint(const Graph& legal);

/// A blueprint with weights: everything a model's identity depends on.
struct Image {
  std::string text;
  std::vector<std::byte> weights;  // the weight file; empty if the program has none
};

/// `value_of` gives the value of each weight entry, in the entry's type.
Image make_image(const Blueprint& blueprint, const std::function<Tensor(const mil::BlobEntry&)>& value_of);

/// Where programs look for their weight file, as the framework spells it.
inline constexpr std::string_view weight_path = "@model_path/weights/weight.bin";

}  // namespace orion::ane
