// Weights of programs on the engine: what does not fit is refused whole, whatever the strategy.
#include "orion/device.h"
#include "orion/error.h"
#include "orion/ops.h"

#include <doctest/doctest.h>

using namespace orion;

namespace {

constexpr std::int64_t channels = 384;

Tensor gains(DType dtype, float last) {
  const Tensor wide({DType::fp32, {1, channels, 1, 1}});
  for (float& value : wide.as<float>()) value = 2.0F;
  wide.as<float>().back() = last;
  return convert(wide, dtype);
}

// y = gain x, the gain declared in `dtype`.
std::unique_ptr<Program> scaled(std::string_view device, DType dtype, const Tensor& gain) {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {1, channels, 1, 64}});
  const Value w = g.weight("gain", {dtype, {1, channels, 1, 1}});
  g.output("y", ops::mul(x, ops::cast(w, "fp32")));
  Device& found = find_device(device);
  return found.compile(g, found.load({{"gain", gain}}));
}

double last_of(Program& program) {
  for (float& value : program.buffer("x").as<float>()) value = 1.0F;
  program.run();
  const Tensor y = program.buffer("y");
  return y.at(y.shape().size() - 1);
}

constexpr const char* beyond =
    "weight 'gain': element 383 is 70000, beyond fp16's range; that is all the engine has; run the "
    "program on the cpu";

}  // namespace

TEST_CASE("an update beyond fp16 is refused, and changes nothing") {
  for (const DType given : {DType::fp16, DType::fp32}) {
    for (const char* device :
         {"sim:strict", "sim:macos26,update=input", "sim:paper-m4-macos15,update=delta"}) {
      CAPTURE(device);
      const auto program = scaled(device, given, gains(given, 3.0F));
      CHECK(last_of(*program) == 3.0);
      CHECK_THROWS_WITH_AS(program->weights()->update({{"gain", gains(DType::fp32, 70000.0F)}}), beyond,
                           Error);
      CHECK(last_of(*program) == 3.0);
      program->weights()->update({{"gain", gains(DType::fp32, 5.0F)}});
      CHECK(last_of(*program) == 5.0);
    }
  }
}

TEST_CASE("a weight beyond fp16 does not compile, as constant or as input") {
  for (const char* device : {"sim:strict", "sim:macos26,update=input"}) {
    CAPTURE(device);
    CHECK_THROWS_WITH_AS(scaled(device, DType::fp32, gains(DType::fp32, 70000.0F)), beyond, Error);
  }
}
