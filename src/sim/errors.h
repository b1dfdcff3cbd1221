// Failures in the framework's own words (field survey 3.8). What is in brackets at the end is the
// simulator's: the reason that the framework keeps to itself.
#pragma once

#include "ane/engine.h"

namespace orion::sim {

/// The compiler rejects the program.
ane::Status invalid_program(std::string_view call, std::string_view reason);
/// macOS 27: several weight files, a link, or a file that changed after it was hashed.
ane::Status invalid_bundle(std::string_view call, std::string_view reason);
/// The daemon refuses to load: 0x5 in general, 0x50004 with too many programs loaded.
ane::Status load_failure(std::string_view code, std::string_view reason);
/// Status 0x1d of an evaluation.
ane::Status inference_error(std::string_view reason);
/// Status 0x2: the request's symbols are not the procedure's.
ane::Status wrong_symbol(std::string_view reason);
/// macOS 27's check of surfaces.
ane::Status small_surface(std::string_view reason);
/// The call would not return.
ane::Status no_answer(std::string_view call, std::string_view reason);
/// A call out of order.
ane::Status misuse(std::string_view call, std::string_view reason);

}  // namespace orion::sim
