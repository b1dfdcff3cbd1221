#include "cpu/ceiling.h"
#include "kernel_bench.h"

#include "orion/error.h"

namespace orion::cpu {

TEST_CASE("the ceiling is measured on every instruction set, and refuses what cannot be") {
  on_every_isa([] {
    for (const MultiplyAdds& loop :
         {kernels().multiply_adds, kernels().multiply_adds_bf16, kernels().multiply_adds_int8}) {
      CHECK(loop.products > 0);
      CHECK(loop.run(3) == 1.0F);
    }
    Floats x(index(2 * ceiling_grain), 1.0F);
    x[5] = 3.0F;
    CHECK(kernels().read_stream(x.data(), 2 * ceiling_grain) == 2.0F * ceiling_grain + 2.0F);
  });
  const Ceiling measured = measure_ceiling(2, 1 << 20, 0.0);
  CHECK(measured.flops > 1e6);
  CHECK(measured.bf16_flops > 1e6);
  CHECK(measured.int8_flops > 1e6);
  CHECK(measured.read_bytes > 1e6);
  CHECK_THROWS_WITH(measure_ceiling(0, 1 << 20, 0.0), "ceiling: 0 threads, from 1 to 1024 are needed");
  CHECK_THROWS_AS(measure_ceiling(1, 1000, 0.0), Error);
  CHECK_THROWS_AS(measure_ceiling(1, 1 << 20, -1.0), Error);
}

}  // namespace orion::cpu
