// A framework of another time: one method that is always needed has other types, one is gone.
#import <Foundation/Foundation.h>

@interface _ANEInMemoryModelDescriptor : NSObject
+ (id)modelWithMILText:(NSData*)text weights:(NSDictionary*)weights optionsPlist:(NSData*)plist;
@end

@implementation _ANEInMemoryModelDescriptor
+ (id)modelWithMILText:(NSData*)text weights:(NSDictionary*)weights optionsPlist:(NSData*)plist {
  return nil;
}
@end

@interface _ANEInMemoryModel : NSObject
+ (id)inMemoryModelWithDescriptor:(id)descriptor;
- (BOOL)compileWithQoS:(long long)qos options:(NSDictionary*)options error:(NSError**)error;
@end

@implementation _ANEInMemoryModel
+ (id)inMemoryModelWithDescriptor:(id)descriptor {
  return nil;
}
- (BOOL)compileWithQoS:(long long)qos options:(NSDictionary*)options error:(NSError**)error {
  return NO;
}
@end
