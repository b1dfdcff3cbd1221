// As much of Foundation as Orion's Objective-C++ uses, declared as Apple documents it: enough to compile for
// macOS where there is no macOS. Nothing links with it.
#pragma once

#include <objc/NSObject.h>
#include <objc/runtime.h>

typedef NSUInteger NSStringEncoding;
enum : NSStringEncoding { NSUTF8StringEncoding = 4 };

typedef struct {
  unsigned long state;
  id __unsafe_unretained* itemsPtr;
  unsigned long* mutationsPtr;
  unsigned long extra[5];
} NSFastEnumerationState;

@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)state
                                  objects:(id __unsafe_unretained[])buffer
                                    count:(NSUInteger)count;
@end

@class NSArray<Element>, NSDictionary<Key, Value>, NSMethodSignature;

@interface NSObject (Signatures)
- (NSMethodSignature*)methodSignatureForSelector:(SEL)selector;
+ (NSMethodSignature*)instanceMethodSignatureForSelector:(SEL)selector;
@end

@interface NSMethodSignature : NSObject
@property(readonly) NSUInteger numberOfArguments;
@property(readonly) const char* methodReturnType;
- (const char*)getArgumentTypeAtIndex:(NSUInteger)index;
@end

@interface NSString : NSObject
@property(readonly) const char* UTF8String;
- (instancetype)initWithBytes:(const void*)bytes
                       length:(NSUInteger)length
                     encoding:(NSStringEncoding)encoding;
- (NSString*)stringByAppendingPathComponent:(NSString*)component;
@end

@interface NSData : NSObject
@property(readonly) const void* bytes;
@property(readonly) NSUInteger length;
+ (instancetype)dataWithBytes:(const void*)bytes length:(NSUInteger)length;
@end

@interface NSNumber : NSObject
+ (NSNumber*)numberWithInt:(int)value;
+ (NSNumber*)numberWithUnsignedLong:(unsigned long)value;
+ (NSNumber*)numberWithLongLong:(long long)value;
@property(readonly) NSUInteger unsignedIntegerValue;
@property(readonly) long long longLongValue;
@end

@interface NSArray<Element> : NSObject <NSFastEnumeration>
@property(readonly) NSUInteger count;
+ (instancetype)arrayWithObjects:(const Element[])objects count:(NSUInteger)count;
- (Element)objectAtIndex:(NSUInteger)index;
@end

@interface NSMutableArray<Element> : NSArray <Element>
+ (instancetype)arrayWithCapacity:(NSUInteger)capacity;
- (void)addObject:(Element)object;
@end

@interface NSDictionary<Key, Value> : NSObject <NSFastEnumeration>
@property(readonly) NSUInteger count;
+ (instancetype)dictionary;
+ (instancetype)dictionaryWithObjects:(const Value[])objects
                              forKeys:(const Key[])keys
                                count:(NSUInteger)count;
- (Value)objectForKey:(Key)key;
@end

@interface NSMutableDictionary<Key, Value> : NSDictionary <Key, Value>
- (void)setObject:(Value)object forKey:(Key)key;
@end

@interface NSError : NSObject
@property(readonly) NSString* domain;
@property(readonly) NSInteger code;
@property(readonly) NSString* localizedDescription;
@end

@interface NSException : NSObject
@property(readonly) NSString* name;
@property(readonly) NSString* reason;
@end

extern "C" {
Class NSClassFromString(NSString* name);
NSString* NSStringFromClass(Class of);
SEL NSSelectorFromString(NSString* name);
NSString* NSTemporaryDirectory(void);
}
