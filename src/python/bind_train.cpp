// Training.
#include "python/bindings.h"
#include "python/convert.h"

#include "orion/error.h"
#include "orion/train.h"

namespace py = pybind11;

namespace orion {
namespace {

std::unique_ptr<Trainer> make_trainer(const py::dict& config, const py::object& weights,
                                      const std::string& device, const TrainOptions& options) {
  const ModelConfig parsed = model_config_of(config);
  const WeightSource source = weight_source_of(weights);
  const py::gil_scoped_release release;
  return std::make_unique<Trainer>(parsed, source, find_device(device), find_device("cpu"), options);
}

TrainOptions make_options(std::int64_t batch, std::int64_t sequence, double beta1, double beta2,
                          double epsilon, double weight_decay, double clip, double loss_scale,
                          bool dynamic_loss_scale, std::int64_t growth_interval, std::int64_t check_every,
                          std::optional<LoraShape> lora, double dropout, std::uint64_t dropout_seed,
                          std::int64_t process, std::int64_t processes, const std::string& precision) {
  if (precision != "fp32" && precision != "bf16")
    fail("train: precision '", precision, "', fp32 or bf16 is needed");
  return {.batch = batch,
          .sequence = sequence,
          .adamw = {beta1, beta2, epsilon, weight_decay},
          .products = precision == "bf16" ? MatrixFormat::bf16 : MatrixFormat::exact,
          .clip = clip,
          .loss_scale = {loss_scale, dynamic_loss_scale, growth_interval},
          .check_every = check_every,
          .lora = std::move(lora),
          .dropout = {dropout, dropout_seed, process, processes}};
}

Tensor batch_of(const Trainer& trainer, const py::object& ids, std::string_view what) {
  return tensor_from_numpy(ids, {DType::int32, {trainer.options().batch, trainer.options().sequence}}, what);
}

template <double (Trainer::*method)(const Tensor&, const Tensor&)>
double on_batch(Trainer& trainer, const py::object& ids, const py::object& targets) {
  const Tensor tokens = batch_of(trainer, ids, "ids");
  const Tensor wanted = batch_of(trainer, targets, "targets");
  const py::gil_scoped_release release;
  return (trainer.*method)(tokens, wanted);
}

py::dict parameters_of(const Trainer& trainer, Tensor Parameter::* member) {
  py::dict arrays;
  for (const Parameter& parameter : trainer.parameters())
    arrays[py::str(parameter.name)] = numpy_view(parameter.*member);
  return arrays;
}

py::dict times_of(const StepReport& report) {
  py::dict times;
  times["device"] = report.times.device;
  times["host"] = report.times.host;
  times["gradients"] = report.times.gradients;
  times["optimizer"] = report.times.optimizer;
  times["update"] = report.times.update;
  return times;
}

void bind_options(py::module_& m) {
  const TrainOptions usual;
  py::class_<TrainOptions>(m, "TrainOptions", "How a Trainer trains; see orion_ane.Trainer.")
      .def(py::init(&make_options), py::kw_only(), py::arg("batch") = usual.batch,
           py::arg("sequence") = usual.sequence, py::arg("beta1") = usual.adamw.beta1,
           py::arg("beta2") = usual.adamw.beta2, py::arg("epsilon") = usual.adamw.epsilon,
           py::arg("weight_decay") = usual.adamw.weight_decay, py::arg("clip") = usual.clip,
           py::arg("loss_scale") = usual.loss_scale.scale,
           py::arg("dynamic_loss_scale") = usual.loss_scale.dynamic,
           py::arg("growth_interval") = usual.loss_scale.growth_interval,
           py::arg("check_every") = usual.check_every, py::arg("lora") = py::none(),
           py::arg("dropout") = usual.dropout.probability, py::arg("dropout_seed") = usual.dropout.seed,
           py::arg("process") = usual.dropout.process, py::arg("processes") = usual.dropout.processes,
           py::arg("precision") = "fp32")
      .def_readonly("batch", &TrainOptions::batch)
      .def_readonly("sequence", &TrainOptions::sequence);
  py::class_<TrainState>(m, "TrainState", "What a resumed run needs besides the parameters.")
      .def(py::init([](std::int64_t step, std::int64_t optimizer_steps, double loss_scale,
                       std::int64_t good_steps) {
             return TrainState{step, optimizer_steps, loss_scale, good_steps};
           }),
           py::kw_only(), py::arg("step"), py::arg("optimizer_steps"), py::arg("loss_scale"),
           py::arg("good_steps"))
      .def_readonly("step", &TrainState::step)
      .def_readonly("optimizer_steps", &TrainState::optimizer_steps, "Steps that were not skipped.")
      .def_readonly("loss_scale", &TrainState::loss_scale)
      .def_readonly("good_steps", &TrainState::good_steps, "Since the loss scale last changed.");
}

void bind_report(py::module_& m) {
  py::class_<StepReport>(m, "StepReport", "What a step did.")
      .def_readonly("step", &StepReport::step, "Steps taken, this one included.")
      .def_readonly("loss", &StepReport::loss, "Mean over the target tokens.")
      .def_readonly("gradient_norm", &StepReport::gradient_norm, "Before clipping.")
      .def_readonly("loss_scale", &StepReport::loss_scale)
      .def_readonly("skipped", &StepReport::skipped, "The gradients were not finite; no weight has changed.")
      .def_readonly("tokens", &StepReport::tokens, "Targets that counted.")
      .def_property_readonly("times", times_of, "Seconds: device, host, gradients, optimizer, update.");
}

}  // namespace

void bind_train(py::module_& m) {
  bind_options(m);
  bind_report(m);
  py::class_<Trainer>(m, "Trainer", "Trains a model: layers on a device, the rest on the host.")
      .def(py::init(&make_trainer), py::arg("config"), py::arg("weights"), py::arg("device"),
           py::arg("options"))
      .def("accumulate", on_batch<&Trainer::accumulate>, py::arg("ids"), py::arg("targets"),
           "Forward and backward of one micro-batch (B, S); its mean loss.")
      .def("step", &Trainer::step, py::arg("learning_rate"), py::call_guard<py::gil_scoped_release>(),
           "One step of the optimizer with the gradients so far.")
      .def_property(
          "accumulated",
          [](const Trainer& t) { return std::pair(t.accumulated().loss, t.accumulated().targets); },
          [](Trainer& t, std::pair<double, std::int64_t> sum) { t.set_accumulated({sum.first, sum.second}); },
          "(loss sum, targets) of the micro-batches since the last step; where processes train together, "
          "set to the sum over them before `step`.")
      .def("evaluate", on_batch<&Trainer::evaluate>, py::arg("ids"), py::arg("targets"),
           "The mean loss of a micro-batch, without gradients.")
      .def_property_readonly("device", &Trainer::device)
      .def_property_readonly("num_parameters", &Trainer::parameter_count)
      .def_property_readonly("programs", &Trainer::programs, "Compiled for the device.")
      .def_property_readonly("compile_seconds", &Trainer::compile_seconds)
      .def_property_readonly("activation_bytes", &Trainer::activation_bytes)
      .def_property_readonly("checks", &Trainer::checks,
                             "Proofs so far that the device computed with new weights.")
      .def_property_readonly(
          "weights", [](const Trainer& t) { return parameters_of(t, &Parameter::value); },
          "{name: fp32 array}, views of the trainer's memory; call `restore` after writing.")
      .def_property_readonly(
          "gradients", [](const Trainer& t) { return parameters_of(t, &Parameter::gradient); },
          "Sums since the last step, times the loss scale.")
      .def_property_readonly("first_moments",
                             [](const Trainer& t) { return parameters_of(t, &Parameter::first_moment); })
      .def_property_readonly("second_moments",
                             [](const Trainer& t) { return parameters_of(t, &Parameter::second_moment); })
      .def_property_readonly("state", &Trainer::state)
      .def("restore", &Trainer::restore, py::arg("state"), py::call_guard<py::gil_scoped_release>(),
           "Continues from a state whose weights and moments have been written.");
  m.def(
      "learning_rate",
      [](std::int64_t step, double peak, std::int64_t warmup, std::int64_t total, const std::string& shape,
         double floor) {
        const Schedule schedule{peak, warmup, total, schedule_shape(shape), floor};
        check_schedule(schedule);
        return learning_rate(schedule, step);
      },
      py::arg("step"), py::kw_only(), py::arg("peak"), py::arg("warmup") = 0, py::arg("total") = 0,
      py::arg("shape") = "cosine", py::arg("floor") = 0.1,
      "The learning rate of step 0, 1, ...: a linear rise over `warmup` steps, then 'constant', 'linear' or "
      "'cosine' down to `floor` times the peak at step `total`.");
}

}  // namespace orion
