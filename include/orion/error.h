// The two exceptions the library throws, and the helper that builds their messages.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace orion {

/// The caller's mistake: a wrong shape, an unknown op, a damaged file. The message names the thing,
/// what was wanted, what came, and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The machine's refusal: a device that is absent, or that rejected a program it should accept.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// All arguments, streamed one after the other.
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(str(parts...));
}

}  // namespace orion
