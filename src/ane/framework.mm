// The engine of AppleNeuralEngine.framework. Compiles unchanged with Apple's clang and with clang + GNUstep.
//
// Objective-C objects are held by ObjcRef, Objective-C exceptions end in `guarded`, and every call that
// may wait for a daemon or the hardware is made `within` the time limit, on another thread that shares
// ownership of all that the call works on. So an object whose call never returns is never released under
// it; when the call does return, the last reference goes with it.
#include "ane/framework_check.h"
#include "ane/framework_surface.h"
#include "ane/model_attributes.h"
#include "ane/staging.h"

#include <cctype>
#include <cstdlib>

namespace orion::ane {
namespace {

// Default quality of service; no other value was seen to change latency.
constexpr unsigned int quality_of_service = 21;

#ifdef __APPLE__
constexpr const char* system_framework =
    "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine";
constexpr const char* surface_framework = "/System/Library/Frameworks/IOSurface.framework/IOSurface";
#endif

Status open_library(const std::string& path) {
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) return {};
  const char* reason = dlerror();
  return status(Status::Kind::unavailable, "open", reason != nullptr ? reason : path);
}

// The argument, else ORION_ANE_FRAMEWORK, else the system's.
Status framework_path(std::string_view argument, std::string& path) {
  const char* configured = std::getenv("ORION_ANE_FRAMEWORK");
  path = argument;
  if (path.empty() && configured != nullptr) path = configured;
#ifdef __APPLE__
  if (path.empty()) path = system_framework;
  return open_library(surface_framework);
#else
  if (!path.empty()) return {};
  return status(
      Status::Kind::unavailable, "open",
      "the Neural Engine's framework is part of macOS; elsewhere ORION_ANE_FRAMEWORK must name a library "
      "that stands in for it");
#endif
}

Status read_device(Framework& framework) {
  Class<ANEDeviceInfoClass> device = Nil;
  find_class(@"_ANEDeviceInfo", device);
  if (framework.has("+[_ANEDeviceInfo hasANE]") && ![device hasANE])
    return status(Status::Kind::unavailable, "open", "this machine has no Neural Engine");
  if (framework.has("+[_ANEDeviceInfo aneArchitectureType]"))
    framework.info.chip = to_std([device aneArchitectureType]);
  if (framework.has("+[_ANEDeviceInfo buildVersion]"))
    framework.info.os_build = to_std([device buildVersion]);
  return {};
}

Status read_framework(Framework& framework) {
  if (!check_methods(framework.info)) {
    std::string text = framework.info.framework + " is not the framework this build knows:";
    for (const std::string& difference : framework.info.missing) text += "\n  " + difference;
    return status(Status::Kind::unavailable, "open", text);
  }
  find_classes(framework);
  return read_device(framework);
}

// ---- Models

// All that calls on a model work on; owned by the model and by each call under way.
struct Program {
  std::shared_ptr<const Framework> framework;
  std::string directory;
  std::unique_ptr<Staging> staging;
  ObjcRef<NSData*> text;           // until it is loaded
  ObjcRef<NSDictionary*> weights;  // likewise
  ObjcRef<id<ANEModel>> model;
  ObjcRef<id<ANERequest>> request;
  std::string identifier;
  bool loaded = false;

  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (!loaded) return;
    std::unique_ptr<StagingTurn> turn;
    (void)StagingTurn::take(directory, framework->limit, turn);  // without it there is still no use for it
    (void)guarded("unload", [&] { return unload(); });
  }

  // Of a program that was loaded, what is on disk is all that there is.
  Status stage() {
    if (!text || (staging && staging->is_there())) return {};
    std::vector<WeightFileData> files;
    for (NSString* path in weights.get())
      files.push_back({to_std(path), bytes_of([[weights.get() objectForKey:path] objectForKey:@"data"])});
    const std::span<const std::byte> bytes = bytes_of(text.get());
    return Staging::open(directory, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, files,
                         staging);
  }

  Status compile() {
    NSError* error = nil;
    if ([model.get() compileWithQoS:quality_of_service options:@{} error:&error]) return {};
    return refused("compile", error, "not compiled");
  }

  Status load() {
    NSError* error = nil;
    if (![model.get() loadWithQoS:quality_of_service options:@{} error:&error])
      return refused("load", error, "not loaded");
    loaded = true;
    // Nothing needs these copies of all weights any more, nor the framework's own.
    text.reset();
    weights.reset();
    if (framework->has("-[_ANEInMemoryModel setDescriptor:]")) [model.get() setDescriptor:nil];
    return {};
  }

  Status unload() {
    NSError* error = nil;
    if (![model.get() unloadWithQoS:quality_of_service error:&error])
      return refused("unload", error, "not unloaded");
    loaded = false;
    return {};
  }

  Status evaluate() {
    if (!request) return status(Status::Kind::misused, "evaluate", "no surfaces are bound");
    NSError* error = nil;
    if ([model.get() evaluateWithQoS:quality_of_service options:@{} request:request.get() error:&error])
      return {};
    return refused("evaluate", error, "not evaluated");
  }

  Status purge() {
    if (!framework->has("-[_ANEInMemoryModel purgeCompiledModel]"))
      return status(Status::Kind::unavailable, "purge", "the framework has no purgeCompiledModel");
    [model.get() purgeCompiledModel];
    return {};
  }

  // The in-memory model's own attributes; macOS 27's raises when asked, and the model inside answers.
  Status layout(Layout& found) {
    Status outer = status(Status::Kind::unavailable, "layout", "the framework has no modelAttributes");
    if (framework->has("-[_ANEInMemoryModel modelAttributes]"))
      outer = guarded("layout", [&] { return AttributeReader().read([model.get() modelAttributes], found); });
    if (outer.ok() || !framework->has("-[_ANEInMemoryModel model]") ||
        !framework->has("-[_ANEModel modelAttributes]"))
      return outer;
    return AttributeReader().read([[model.get() model] modelAttributes], found);
  }

  Status bind(const Procedure& procedure, const std::vector<ObjcRef<id<ANEIOSurfaceObject>>>& inputs,
              const std::vector<ObjcRef<id<ANEIOSurfaceObject>>>& outputs) {
    const auto objects = [](const auto& refs) {
      NSMutableArray* array = [NSMutableArray arrayWithCapacity:refs.size()];
      for (const auto& ref : refs) [array addObject:ref.get()];
      return array;
    };
    const auto indices = [](const std::vector<std::int64_t>& numbers) {
      NSMutableArray* array = [NSMutableArray arrayWithCapacity:numbers.size()];
      for (const std::int64_t number : numbers) [array addObject:@(number)];
      return array;
    };
    request = ObjcRef<id<ANERequest>>::retain([framework->request requestWithInputs:objects(inputs)
                                                                       inputIndices:indices(procedure.inputs)
                                                                            outputs:objects(outputs)
                                                                      outputIndices:indices(procedure.outputs)
                                                                      weightsBuffer:nil
                                                                          perfStats:nil
                                                                     procedureIndex:@(procedure.index)]);
    return request ? Status{} : refused("bind", nil, "no request for these surfaces");
  }
};

class FrameworkModel final : public Model {
 public:
  explicit FrameworkModel(std::shared_ptr<Program> program)
      : program_(std::move(program)),
        limit_(program_->framework->limit),
        identifier_(program_->identifier),
        directory_(program_->directory) {}

  ~FrameworkModel() override {
    (void)within(limit_, "release", [program = std::move(program_)]() mutable -> Status {
      program.reset();
      return {};
    });
  }

  std::string identifier() override { return identifier_; }
  std::string directory() override { return directory_; }

  bool compiled_exists() override {
    if (!program_->framework->has("-[_ANEInMemoryModel compiledModelExists]")) return false;
    const auto exists = std::make_shared<bool>(false);
    const Status asked = run("compiled-exists", [exists](Program& program) -> Status {
      *exists = [program.model.get() compiledModelExists];
      return {};
    });
    return asked.ok() && *exists;
  }

  Status compile() override {
    return run_staged("compile", [](Program& program) { return program.compile(); });
  }
  Status load() override {
    return run_staged("load", [](Program& program) { return program.load(); });
  }
  Status unload() override {
    std::unique_ptr<StagingTurn> turn;
    Status result = take_turn("unload", turn);
    if (!result.ok()) return result;
    return run("unload", [](Program& program) { return program.unload(); });
  }
  Status purge() override {
    return run("purge", [](Program& program) { return program.purge(); });
  }
  Status evaluate() override {
    return run("evaluate", [](Program& program) { return program.evaluate(); });
  }

  Status layout(Layout& layout) override {
    const auto found = std::make_shared<Layout>();
    Status asked = run("layout", [found](Program& program) { return program.layout(*found); });
    if (asked.ok()) layout = std::move(*found);
    return asked;
  }

  Status bind_procedure(const Procedure& procedure, std::span<Surface* const> inputs,
                        std::span<Surface* const> outputs) override {
    Objects in, out;
    if (!collect(inputs, in) || !collect(outputs, out))
      return status(Status::Kind::misused, "bind", "a surface is not of this framework");
    return run("bind", [procedure, in, out](Program& program) { return program.bind(procedure, in, out); });
  }

 private:
  using Objects = std::vector<ObjcRef<id<ANEIOSurfaceObject>>>;

  static bool collect(std::span<Surface* const> surfaces, Objects& objects) {
    for (Surface* surface : surfaces) {
      const auto* own = dynamic_cast<const FrameworkSurface*>(surface);
      if (own == nullptr) return false;
      objects.push_back(own->object());
    }
    return true;
  }

  Status check_free(std::string_view name) const {
    if (stuck_.empty()) return {};
    return status(Status::Kind::timed_out, name,
                  "the model's " + stuck_ + " has not returned; make a new model");
  }

  // It ends with the call, be that given up: whoever comes next must not wait for what may never return.
  Status take_turn(std::string_view name, std::unique_ptr<StagingTurn>& turn) const {
    Status free = check_free(name);
    return free.ok() ? StagingTurn::take(directory_, limit_, turn) : free;
  }

  template <class Call>
  Status run_staged(std::string_view name, Call call) {
    std::unique_ptr<StagingTurn> turn;
    Status result = take_turn(name, turn);
    if (result.ok()) result = guarded("stage", [&] { return program_->stage(); });
    return result.ok() ? run(name, call) : result;
  }

  template <class Call>
  Status run(std::string_view name, Call call) {
    if (Status free = check_free(name); !free.ok()) return free;
    Status result = within(limit_, name, [program = program_, name = std::string(name), call] {
      return guarded(name, [&] { return call(*program); });
    });
    if (result.kind == Status::Kind::timed_out) stuck_ = name;
    return result;
  }

  std::shared_ptr<Program> program_;
  Seconds limit_;
  std::string identifier_;
  std::string directory_;
  std::string stuck_;  // the call that did not return
};

// ---- The engine

NSDictionary* weight_dictionary(std::span<const WeightFileData> files) {
  NSMutableDictionary* weights = [NSMutableDictionary dictionary];
  for (const WeightFileData& file : files)
    [weights setObject:@{@"offset" : @0, @"data" : to_data(file.bytes)} forKey:to_ns(file.path)];
  return weights;
}

// It becomes a directory's name.
bool is_plain(std::string_view identifier) {
  return !identifier.empty() &&
         std::ranges::all_of(identifier, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

Status make_model(Program& program) {
  id<ANEDescriptor> descriptor = [program.framework->descriptor modelWithMILText:program.text.get()
                                                                         weights:program.weights.get()
                                                                    optionsPlist:nil];
  if (descriptor == nil) return refused("model", nil, "the text gave no descriptor");
  program.model =
      ObjcRef<id<ANEModel>>::retain([program.framework->model inMemoryModelWithDescriptor:descriptor]);
  if (!program.model) return refused("model", nil, "the descriptor gave no model");
  program.identifier = to_std([program.model.get() hexStringIdentifier]);
  if (is_plain(program.identifier)) return {};
  return refused("model", nil, "its identifier is '" + program.identifier + "'");
}

class FrameworkEngine final : public Engine {
 public:
  explicit FrameworkEngine(std::shared_ptr<const Framework> framework) : framework_(std::move(framework)) {
    remove_abandoned_staging(directory_of(""));
  }

  EngineInfo info() override { return framework_->info; }

  Status create_surface(std::size_t bytes, std::unique_ptr<Surface>& surface) override {
    const auto made = std::make_shared<std::unique_ptr<Surface>>();
    Status result = within(framework_->limit, "surface", [framework = framework_, bytes, made] {
      return guarded("surface", [&] { return make_surface(*framework, bytes, *made); });
    });
    if (result.ok()) surface = std::move(*made);
    return result;
  }

  Status create_model(std::string_view text, std::span<const WeightFileData> files,
                      std::unique_ptr<Model>& model) override {
    const auto program = std::make_shared<Program>();
    program->framework = framework_;
    Status result = guarded("model", [&] { return make(program, text, files); });
    if (!result.ok()) return result;
    program->directory = directory_of(program->identifier);
    model = std::make_unique<FrameworkModel>(program);
    return {};
  }

 private:
  // The framework's calls get copies of all bytes: they may outlive this one.
  Status make(const std::shared_ptr<Program>& program, std::string_view text,
              std::span<const WeightFileData> files) const {
    program->text = ObjcRef<NSData*>::retain(to_data(std::as_bytes(std::span(text))));
    program->weights = ObjcRef<NSDictionary*>::retain(weight_dictionary(files));
    return within(framework_->limit, "model",
                  [program] { return guarded("model", [&] { return make_model(*program); }); });
  }

  static std::string directory_of(const std::string& identifier) {
    std::string directory;
    (void)guarded("stage", [&]() -> Status {
      directory = to_std([NSTemporaryDirectory() stringByAppendingPathComponent:to_ns(identifier)]);
      return {};
    });
    return directory;
  }

  std::shared_ptr<const Framework> framework_;
};

}  // namespace

Status open_framework(std::string_view path, std::unique_ptr<Engine>& engine) {
  const auto framework = std::make_shared<Framework>();
  Status result = time_limit_from_environment(framework->limit);
  if (result.ok()) result = framework_path(path, framework->info.framework);
  if (result.ok()) result = open_library(framework->info.framework);
  if (result.ok())
    result = within(framework->limit, "open",
                    [framework] { return guarded("open", [&] { return read_framework(*framework); }); });
  if (result.ok()) engine = std::make_unique<FrameworkEngine>(framework);
  return result;
}

}  // namespace orion::ane
