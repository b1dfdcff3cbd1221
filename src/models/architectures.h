// The architectures, one file each. table.cpp lists them.
#pragma once

#include "orion/model.h"

namespace orion {

const ModelDef& gpt2();
const ModelDef& llama();
const ModelDef& qwen2();
const ModelDef& qwen3();

}  // namespace orion
