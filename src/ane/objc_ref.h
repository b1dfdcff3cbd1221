// Objective-C from C++ with manual reference counts: Apple's clang with -fno-objc-arc, and clang with
// GNUstep, whose GCC runtime has no ARC. Included by Objective-C++ only.
#pragma once

#import <Foundation/Foundation.h>

#include "ane/engine.h"

#include <string>
#include <utility>

#if __has_feature(objc_arc)
#error "reference counts are manual here: compile with -fno-objc-arc"
#endif
// On the GCC runtime a C++ handler in Objective-C++ is never entered.
#if defined(__cpp_exceptions)
#error "compile with -fexceptions -fno-cxx-exceptions, in this order: no C++ throw or try in Objective-C++"
#endif

namespace orion::ane {

/// Empty for nil.
inline std::string to_std(NSString* text) {
  const char* characters = [text UTF8String];
  return characters == nullptr ? std::string() : std::string(characters);
}

inline Status status(Status::Kind kind, std::string_view call, std::string text) {
  return {kind, std::string(call), "", 0, std::move(text)};
}

/// In the framework's words, or in ours if it has none.
inline Status refused(std::string_view call, NSError* error, std::string_view otherwise) {
  if (error == nil) return {Status::Kind::refused, std::string(call), "no error", 0, std::string(otherwise)};
  return {Status::Kind::refused, std::string(call), to_std([error domain]), static_cast<long>([error code]),
          to_std([error localizedDescription])};
}

/// What `work` returns, or the Objective-C exception it left with. The pool is outside the @try, so
/// that the exception is alive while it is read.
template <class Work>
Status guarded(std::string_view call, const Work& work) {
  Status result;
  @autoreleasepool {
    @try {
      result = work();
    } @catch (NSException* exception) {
      result =
          status(Status::Kind::raised, call, to_std([exception name]) + ": " + to_std([exception reason]));
    } @catch (id thrown) {
      result = status(Status::Kind::raised, call,
                      "an object that is no exception: " + to_std(NSStringFromClass([thrown class])));
    }
  }
  return result;
}

/// Owns one reference. T is an object pointer: NSString*, id<ANEModel>.
template <class T>
class ObjcRef {
 public:
  ObjcRef() = default;
  ~ObjcRef() { reset(); }
  ObjcRef(const ObjcRef& other) : object_(other.object_) { [object_ retain]; }
  ObjcRef(ObjcRef&& other) noexcept : object_(std::exchange(other.object_, T(nil))) {}
  ObjcRef& operator=(ObjcRef other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }

  /// Takes over the reference that alloc, new and copy give.
  static ObjcRef adopt(T object) {
    ObjcRef ref;
    ref.object_ = object;
    return ref;
  }
  /// Adds a reference to what any other method gives.
  static ObjcRef retain(T object) { return adopt([object retain]); }

  T get() const { return object_; }
  explicit operator bool() const { return object_ != nil; }
  /// Needs no pool around it, and lets no exception of a `dealloc` out.
  void reset() {
    if (object_ == nil) return;
    T object = std::exchange(object_, T(nil));
    (void)guarded("release", [object]() -> Status {
      [object release];
      return {};
    });
  }

 private:
  T object_ = nil;
};

/// Autoreleased; nil if the text is not UTF-8.
inline NSString* to_ns(std::string_view text) {
  return [[[NSString alloc] initWithBytes:text.data() length:text.size()
                                 encoding:NSUTF8StringEncoding] autorelease];
}

/// Autoreleased copy.
inline NSData* to_data(std::span<const std::byte> bytes) {
  return [NSData dataWithBytes:bytes.data() length:bytes.size()];
}

inline std::span<const std::byte> bytes_of(NSData* data) {
  return {static_cast<const std::byte*>([data bytes]), [data length]};
}

}  // namespace orion::ane
