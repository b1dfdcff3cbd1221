#include "ane/engine.h"

#include "orion/error.h"

namespace orion::ane {

std::string Status::message() const {
  std::string words = str(call, ": ");
  switch (kind) {
    case Kind::ok:
      return words + "ok";
    case Kind::refused:
      return words + str(domain, ' ', code, ": ", text);
    case Kind::raised:
      return words + str("the framework raised ", text);
    case Kind::timed_out:
      return words + str("no answer, ", text);
    case Kind::unavailable:
    case Kind::misused:
      return words + text;
  }
  return words;
}

}  // namespace orion::ane
