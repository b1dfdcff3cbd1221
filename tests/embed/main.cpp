// The library as an app would use it: build a graph, compile it, run it, change a weight.
#include <orion/device.h>
#include <orion/ops.h>

#include <cstdio>

int main() {
  using namespace orion;
  Graph graph("double_and_add");
  const Value x = graph.input("x", {DType::fp32, {2, 2}});
  const Value w = graph.weight("w", {DType::fp32, {2, 2}});
  graph.output("y", ops::add(ops::matmul(x, w), x));

  Tensor identity(w.type());
  identity.as<float>()[0] = identity.as<float>()[3] = 1.0F;
  Device& device = find_device("auto");
  const auto program = device.compile(graph, device.load({{"w", identity}}));

  const Tensor input = program->buffer("x");
  for (std::size_t i = 0; i < 4; ++i) input.as<float>()[i] = static_cast<float>(i);
  program->run();
  const double twice = program->buffer("y").at(3);  // 3 + 3

  identity = Tensor(w.type());
  program->weights()->update({{"w", identity}});
  program->run();
  const double once = program->buffer("y").at(3);  // 0 + 3
  std::printf("on %s: %g, then %g\n", std::string(program->device()).c_str(), twice, once);
  return twice == 6.0 && once == 3.0 ? 0 : 1;
}
