#include "ane/engine.h"

#include "orion/error.h"

#include <numeric>

namespace orion::ane {
namespace {

std::vector<std::int64_t> first_numbers(std::size_t count) {
  std::vector<std::int64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

Status Model::bind(std::span<Surface* const> inputs, std::span<Surface* const> outputs) {
  return bind_procedure({0, first_numbers(inputs.size()), first_numbers(outputs.size())}, inputs, outputs);
}

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
