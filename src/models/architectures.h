// The architectures, one file each. table.cpp lists them.
#pragma once

#include "orion/segments.h"

namespace orion {

const ModelDef& gpt2();
const ModelDef& llama();
const ModelDef& qwen2();
const ModelDef& qwen3();

const SegmentDef& gpt2_segments();
const SegmentDef& llama_segments();

}  // namespace orion
