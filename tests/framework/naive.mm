// Calls of the framework as somebody makes them who does not know better.
#include "framework/controls.h"
#include "framework/objects.h"

namespace {

// What the call raises, which would end a process that does not catch it.
template <class Call>
const char* raised_by(Call call) {
  static std::string raised;
  raised.clear();
  @autoreleasepool {
    @try {
      call();
    } @catch (NSException* exception) {
      raised = [[NSString stringWithFormat:@"%@: %@", [exception name], [exception reason]] UTF8String];
    }
  }
  return raised.c_str();
}

NSString* const text = @"program(1.3) { }";

void make(id program_text, NSDictionary* weights) {
  [_ANEInMemoryModelDescriptor modelWithMILText:program_text weights:weights optionsPlist:nil];
}

}  // namespace

const char* orion_sim_text_as_string() {
  return raised_by([] { make(text, @{}); });
}

const char* orion_sim_no_weights() {
  return raised_by([] { make([text dataUsingEncoding:NSUTF8StringEncoding], nil); });
}
