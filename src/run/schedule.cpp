#include "orion/error.h"
#include "orion/train.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace orion {

ScheduleShape schedule_shape(std::string_view name) {
  if (name == "constant") return ScheduleShape::constant;
  if (name == "linear") return ScheduleShape::linear;
  if (name == "cosine") return ScheduleShape::cosine;
  fail("schedule '", name, "': constant, linear or cosine is needed");
}

void check_schedule(const Schedule& schedule) {
  if (!(schedule.peak > 0.0) || !std::isfinite(schedule.peak))
    fail("schedule: a learning rate of ", schedule.peak, ", a positive number is needed");
  if (schedule.total < 0 || schedule.warmup < 0)
    fail("schedule: ", schedule.warmup, " warm-up steps of ", schedule.total, ", neither may be negative");
  if (schedule.shape != ScheduleShape::constant && schedule.warmup > schedule.total)
    fail("schedule: ", schedule.warmup, " warm-up steps are more than the ", schedule.total, " in all");
  if (!(schedule.floor >= 0.0 && schedule.floor <= 1.0))
    fail("schedule: a floor of ", schedule.floor, ", it is a share of the peak, from 0 to 1");
}

double learning_rate(const Schedule& schedule, std::int64_t step) {
  if (step < schedule.warmup)
    return schedule.peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  if (schedule.shape == ScheduleShape::constant) return schedule.peak;
  const auto length = static_cast<double>(std::max<std::int64_t>(1, schedule.total - schedule.warmup));
  const double done = std::min(1.0, static_cast<double>(step - schedule.warmup) / length);
  const double left =
      schedule.shape == ScheduleShape::linear ? 1.0 - done : 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return schedule.peak * (schedule.floor + (1.0 - schedule.floor) * left);
}

}  // namespace orion
