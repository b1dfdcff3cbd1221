#include "sim/errors.h"

#include "orion/error.h"

namespace orion::sim {
namespace {

using Kind = ane::Status::Kind;

constexpr std::string_view engine = "com.apple.appleneuralengine";
constexpr std::string_view compiler = "com.apple.appleneuralengine.compiler";

ane::Status refusal(std::string_view call, std::string_view domain, long code, std::string_view text,
                    std::string_view reason) {
  return {Kind::refused, std::string(call), std::string(domain), code, str(text, " [", reason, ']')};
}

}  // namespace

ane::Status invalid_program(std::string_view call, std::string_view reason) {
  return refusal(call, compiler, 1, "_ANECompiler : ANECCompile() FAILED: err=(InvalidMILProgram)", reason);
}

ane::Status invalid_bundle(std::string_view call, std::string_view reason) {
  return refusal(call, engine, 10, "verifyBundleAtPath: invalid model", reason);
}

ane::Status load_failure(std::string_view code, std::string_view reason) {
  return refusal("load", engine, 6, str("createProgramInstanceForModel: Program load failure (", code, ')'),
                 reason);
}

ane::Status inference_error(std::string_view reason) {
  return refusal(
      "evaluate", engine, 8,
      "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9: Program Inference "
      "error",
      reason);
}

ane::Status wrong_symbol(std::string_view reason) {
  return refusal("evaluate", engine, 8, "ANEProgramProcessRequestDirect() Failed with status=0x2", reason);
}

ane::Status small_surface(std::string_view reason) {
  return refusal("evaluate", engine, 42, "IOSurface smaller than the model expects", reason);
}

ane::Status no_answer(std::string_view call, std::string_view reason) {
  return {Kind::timed_out, std::string(call), std::string(engine), 0,
          str("the call does not return [", reason, ']')};
}

ane::Status misuse(std::string_view call, std::string_view reason) {
  return {Kind::misused, std::string(call), "", 0, std::string(reason)};
}

}  // namespace orion::sim
