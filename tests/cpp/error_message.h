// What an error says.
#pragma once

#include "orion/error.h"

#include <functional>
#include <string>

namespace orion::test {

inline std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace orion::test
