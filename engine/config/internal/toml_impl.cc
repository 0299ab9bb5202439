// TOML++ asserts on some malformed input that its parser then rejects properly: `b=[1,}}` must be
// an error and not the end of the process.
#define TOML_ASSERT(condition) static_cast<void>(0)
#define TOML_IMPLEMENTATION
#include "engine/config/internal/toml.h"
