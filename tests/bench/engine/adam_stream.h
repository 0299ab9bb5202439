// Loops that read and write what an Adam step does and compute nothing: what memory gives to such
// a pass. Compiled per instruction set, as the kernel is.
#pragma once

#include <string_view>

#include "engine/optimizer/adam.h"

namespace strata::engine {

// nullptr if there is no such instruction set in this build.
using AdamStream = void (*)(const AdamSlices& slices);
AdamStream FindAdamStream(std::string_view instruction_set);

}  // namespace strata::engine
