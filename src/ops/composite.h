// The rows of composite.cpp's table that live in files of their own.
#pragma once

#include "orion/op.h"

namespace orion {

OpDef layer_norm_op();
OpDef rms_norm_op();
OpDef layer_norm_gradient_op();
OpDef rms_norm_gradient_op();
OpDef rope_op();
OpDef attention_op();
OpDef attention_gradient_op();
OpDef cache_update_op();
OpDef cross_entropy_op();
OpDef cross_entropy_gradient_op();

}  // namespace orion
