// What the compiler makes of a program: code from the text, constants from the weight files.
#pragma once

#include "ane/engine.h"
#include "mil/blob_places.h"
#include "orion/ane.h"
#include "sim/arithmetic.h"

#include <filesystem>
#include <map>
#include <memory>

namespace orion::sim {

struct Code {
  ane::Layout layout;
  std::vector<TensorType> input_types;   // in symbol order
  std::vector<TensorType> output_types;  // in symbol order
  std::vector<ane::Violation> violations;
  Arithmetic arithmetic;
  Graph graph;  // empty if the program cannot come to a result, as its violations say
  std::map<NodeId, mil::BlobPlace> blobs;
  std::vector<std::shared_ptr<const Code>> others;  // of the program's further functions, in their order
};

/// Error, with line and column, if the text is not MIL, or uses what the simulator does not have while no
/// violation forbids it.
std::shared_ptr<const Code> make_code(std::string_view text, const ane::Profile& profile);

/// The values of weights and constants by node, as the engine holds them. Those that only products read
/// stay in fp16 memory. Error naming the weight whose file is missing or has no such type.
std::vector<Tensor> read_constants(const Code& code, const std::filesystem::path& directory);

/// One procedure, and the others that are loaded with it.
struct Program {
  std::shared_ptr<const Code> code;
  std::vector<Tensor> constants;
  std::vector<std::shared_ptr<const Program>> others;
};

/// The code with its constants.
std::shared_ptr<const Program> make_program(const std::shared_ptr<const Code>& code,
                                            const std::filesystem::path& directory);

/// Every procedure's layout, `main` first: symbols are numbered on from one to the next.
ane::Layout layout_of(const Code& code);

}  // namespace orion::sim
