// The framework's classes, after each method we call was compared with what we expect of it. Included by
// Objective-C++ only.
#pragma once

#include "ane/objc_ref.h"
#include "ane/private_api.h"
#include "ane/time_limit.h"

#include <dlfcn.h>
#include <algorithm>
#include <cstring>

namespace orion::ane {

struct Framework {
  Class<ANEDescriptorClass> descriptor = Nil;
  Class<ANEModelClass> model = Nil;
  Class<ANERequestClass> request = Nil;
  Class<ANEIOSurfaceObjectClass> surface_object = Nil;
  Class<ANESurface> surface = Nil;
  Seconds limit{};
  EngineInfo info;

  bool has(std::string_view method) const {
    return std::ranges::find(info.found, method) != info.found.end();
  }
};

template <class QualifiedClass>
void find_class(NSString* name, QualifiedClass& found) {
  found = static_cast<QualifiedClass>(NSClassFromString(name));
}

inline void find_classes(Framework& framework) {
  find_class(@"_ANEInMemoryModelDescriptor", framework.descriptor);
  find_class(@"_ANEInMemoryModel", framework.model);
  find_class(@"_ANERequest", framework.request);
  find_class(@"_ANEIOSurfaceObject", framework.surface_object);
  find_class(@"IOSurface", framework.surface);
}

// A method's encoding without frame offsets, qualifiers, and with B for BOOL; empty if there is none.
inline std::string encoding_of(const ExpectedMethod& method) {
  Class owner = NSClassFromString(to_ns(method.class_name));
  SEL selector = NSSelectorFromString(to_ns(method.selector));
  if (owner == Nil) return "";
  const bool of_class = method.kind == '+';
  if (!(of_class ? [owner respondsToSelector:selector] : [owner instancesRespondToSelector:selector]))
    return "";
  NSMethodSignature* signature = of_class ? [owner methodSignatureForSelector:selector]
                                          : [owner instanceMethodSignatureForSelector:selector];
  if (signature == nil) return "";
  const auto plain = [](const char* type) {
    const std::string text = type + std::strspn(type, "rnNoORV");
    return text == @encode(BOOL) ? std::string("B") : text;
  };
  std::string encoding = plain([signature methodReturnType]);
  for (NSUInteger i = 0; i < [signature numberOfArguments]; ++i)
    encoding += plain([signature getArgumentTypeAtIndex:i]);
  return encoding;
}

inline std::string name_of(const ExpectedMethod& method) {
  return std::string(1, method.kind) + "[" + method.class_name + " " + method.selector + "]";
}

// The keys of a surface's description, named as IOSurface exports them.
inline constexpr const char* surface_keys[] = {"kIOSurfaceWidth",       "kIOSurfaceHeight",
                                               "kIOSurfaceBytesPerRow", "kIOSurfaceBytesPerElement",
                                               "kIOSurfaceAllocSize",   "kIOSurfacePixelFormat"};

inline NSString* exported_string(const char* symbol) {
  void* address = dlsym(RTLD_DEFAULT, symbol);
  return address == nullptr ? nil : *static_cast<NSString**>(address);
}

// Fills `found` and `missing`; whether all that is always needed is there.
inline bool check_methods(EngineInfo& info) {
  bool complete = true;
  for (const ExpectedMethod& method : expected_methods) {
    const std::string encoding = encoding_of(method);
    if (encoding == method.encoding) {
      info.found.push_back(name_of(method));
      continue;
    }
    info.missing.push_back(name_of(method) + (encoding.empty()
                                                  ? std::string(": none")
                                                  : ": " + encoding + " instead of " + method.encoding));
    complete = complete && method.need == Need::optional;
  }
  for (const char* key : surface_keys) {
    const bool present = exported_string(key) != nil;
    (present ? info.found : info.missing).push_back(key + std::string(present ? "" : ": none"));
    complete = complete && present;
  }
  return complete;
}

}  // namespace orion::ane
