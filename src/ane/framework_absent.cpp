// Stands in for framework.mm in builds without Objective-C++.
#include "ane/engine.h"

namespace orion::ane {

Status open_framework(std::string_view, std::unique_ptr<Engine>&) {
  return {Status::Kind::unavailable, "open", "", 0,
          "this build has no Objective-C++: build with ORION_ANE=ON to reach the Neural Engine's framework"};
}

}  // namespace orion::ane
