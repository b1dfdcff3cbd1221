// _ANEInMemoryModel and its descriptor, request and inner model, over a model of the simulator.
#include "framework/objects.h"
#include "framework/simulator.h"

#include <vector>

namespace orion::framework {

NSString* to_ns(const std::string& text) {
  return [NSString stringWithUTF8String:text.c_str()];
}

bool proceed(const char* call, NSError** error) {
  switch (next_fault(call)) {
    case Fault::none:
      return true;
    case Fault::nothing:
      return false;
    case Fault::fail:
      return answer({ane::Status::Kind::refused, call, "orion.planned", 7, "a planned failure"}, error);
    case Fault::raise:
      [NSException raise:@"OrionPlanned" format:@"a planned exception"];
  }
  return false;
}

ane::Engine& engine() {
  std::string reason;
  ane::Engine* found = simulated_engine([NSTemporaryDirectory() UTF8String], reason);
  if (found == nullptr) [NSException raise:@"OrionSimulator" format:@"%s", reason.c_str()];
  return *found;
}

BOOL answer(const ane::Status& status, NSError** error) {
  if (status.ok()) return YES;
  if (status.kind == ane::Status::Kind::raised)
    [NSException raise:NSInternalInconsistencyException format:@"%s", status.text.c_str()];
  NSDictionary* words = @{NSLocalizedDescriptionKey : to_ns(status.text)};
  if (error != nullptr)
    *error = [NSError errorWithDomain:to_ns(status.domain) code:status.code userInfo:words];
  return NO;
}

namespace {

std::span<const std::byte> bytes_of(NSData* data) {
  return {static_cast<const std::byte*>([data bytes]), [data length]};
}

std::vector<ane::WeightFileData> files_of(NSDictionary* weights) {
  std::vector<ane::WeightFileData> files;
  for (NSString* path in [[weights allKeys] sortedArrayUsingSelector:@selector(compare:)])
    files.push_back({[path UTF8String], bytes_of([[weights objectForKey:path] objectForKey:@"data"])});
  return files;
}

using Memories = std::vector<Memory*>;

Memories memories_of(NSArray* objects) {
  Memories memories;
  for (_ANEIOSurfaceObject* object in objects) memories.push_back(object->surface_->memory_.get());
  return memories;
}

std::vector<std::int64_t> numbers_of(NSArray* indices) {
  std::vector<std::int64_t> numbers;
  for (NSNumber* index in indices) numbers.push_back([index longLongValue]);
  return numbers;
}

std::vector<ane::Surface*> simulated(const Memories& memories) {
  std::vector<ane::Surface*> surfaces;
  for (const Memory* memory : memories) surfaces.push_back(&memory->simulated());
  return surfaces;
}

}  // namespace
}  // namespace orion::framework

using namespace orion::framework;

@implementation _ANEInMemoryModelDescriptor
+ (id)modelWithMILText:(NSData*)text weights:(NSDictionary*)weights optionsPlist:(NSData*)plist {
  if (!proceed("descriptor")) return nil;
  if (weights == nil || plist != nil)
    [NSException raise:NSInvalidArgumentException format:@"a dictionary of weights and no plist, please"];
  static_cast<void>([text bytes]);  // it is hashed: an NSString has no such method
  _ANEInMemoryModelDescriptor* descriptor = [[[self alloc] init] autorelease];
  descriptor->text_ = [text copy];
  descriptor->weights_ = [weights copy];
  return descriptor;
}
- (void)dealloc {
  [text_ release];
  [weights_ release];
  [super dealloc];
}
@end

@implementation _ANERequest
+ (id)requestWithInputs:(NSArray*)inputs
           inputIndices:(NSArray*)inputIndices
                outputs:(NSArray*)outputs
          outputIndices:(NSArray*)outputIndices
          weightsBuffer:(id)weightsBuffer
              perfStats:(NSArray*)perfStats
         procedureIndex:(NSNumber*)procedureIndex {
  if (!proceed("request")) return nil;
  if ([inputs count] != [inputIndices count] || [outputs count] != [outputIndices count] ||
      weightsBuffer != nil || perfStats != nil || procedureIndex == nil)
    return nil;
  _ANERequest* request = [[[self alloc] init] autorelease];
  request->inputs_ = [inputs copy];
  request->inputIndices_ = [inputIndices copy];
  request->outputs_ = [outputs copy];
  request->outputIndices_ = [outputIndices copy];
  request->procedure_ = [procedureIndex copy];
  return request;
}
- (void)dealloc {
  [inputs_ release];
  [inputIndices_ release];
  [outputs_ release];
  [outputIndices_ release];
  [procedure_ release];
  [super dealloc];
}
@end

@implementation _ANEModel
- (NSDictionary*)modelAttributes {
  return attributes_;
}
- (void)dealloc {
  [attributes_ release];
  [super dealloc];
}
@end

@implementation _ANEInMemoryModel
+ (id)inMemoryModelWithDescriptor:(_ANEInMemoryModelDescriptor*)descriptor {
  if (!proceed("model")) return nil;
  _ANEInMemoryModel* model = [[[self alloc] init] autorelease];
  const std::span<const std::byte> text = bytes_of(descriptor->text_);
  const std::vector<orion::ane::WeightFileData> files = files_of(descriptor->weights_);
  const orion::ane::Status made = engine().create_model(
      {reinterpret_cast<const char*>(text.data()), text.size()}, files, model->simulated_);
  if (!made.ok()) [NSException raise:@"OrionSimulator" format:@"%s", made.text.c_str()];
  model->descriptor_ = [descriptor retain];
  return model;
}
- (void)dealloc {
  [descriptor_ release];
  [inner_ release];
  [super dealloc];
}
- (NSString*)hexStringIdentifier {
  return proceed("identifier") ? to_ns(simulated_->identifier()) : nil;
}
- (BOOL)compiledModelExists {
  return proceed("exists") && simulated_->compiled_exists();
}
- (void)purgeCompiledModel {
  if (proceed("purge")) answer(simulated_->purge(), nullptr);
}
- (BOOL)compileWithQoS:(unsigned int)qos options:(NSDictionary*)options error:(NSError**)error {
  if (!proceed("compile", error)) return NO;
  if (options == nil) [NSException raise:NSInvalidArgumentException format:@"options are nil"];
  return answer(simulated_->compile(), error);
}
- (BOOL)loadWithQoS:(unsigned int)qos options:(NSDictionary*)options error:(NSError**)error {
  if (!proceed("load", error)) return NO;
  if (options == nil) [NSException raise:NSInvalidArgumentException format:@"options are nil"];
  return answer(simulated_->load(), error);
}
- (BOOL)unloadWithQoS:(unsigned int)qos error:(NSError**)error {
  if (!proceed("unload", error)) return NO;
  return answer(simulated_->unload(), error);
}
- (BOOL)evaluateWithQoS:(unsigned int)qos
                options:(NSDictionary*)options
                request:(_ANERequest*)request
                  error:(NSError**)error {
  if (!proceed("evaluate", error)) return NO;
  const Memories inputs = memories_of(request->inputs_);
  const Memories outputs = memories_of(request->outputs_);
  const orion::ane::Procedure procedure{[request->procedure_ longLongValue],
                                        numbers_of(request->inputIndices_),
                                        numbers_of(request->outputIndices_)};
  if (!answer(simulated_->bind_procedure(procedure, simulated(inputs), simulated(outputs)), error)) return NO;
  for (Memory* memory : inputs) memory->send();
  const orion::ane::Status evaluated = simulated_->evaluate();
  for (Memory* memory : outputs) memory->receive();
  return answer(evaluated, error);
}
- (NSDictionary*)modelAttributes {
  if (!proceed("attributes")) return nil;
  if (attributes_raise())
    [NSException raise:NSInvalidArgumentException format:@"-externConstants: unrecognized selector"];
  return [[self model] modelAttributes];
}
- (_ANEModel*)model {
  orion::ane::Layout layout;
  if (inner_ == nil && simulated_->layout(layout).ok()) {
    inner_ = [[_ANEModel alloc] init];
    inner_->attributes_ = [attributes_of(layout) retain];
  }
  return inner_;
}
- (void)setDescriptor:(_ANEInMemoryModelDescriptor*)descriptor {
  [descriptor retain];
  [descriptor_ release];
  descriptor_ = descriptor;
}
@end

@implementation _ANEDeviceInfo
+ (BOOL)hasANE {
  return YES;
}
+ (NSString*)aneArchitectureType {
  return to_ns(engine().info().chip);
}
+ (NSString*)buildVersion {
  return to_ns(engine().info().os_build);
}
@end
