// Stands in for CUDA's header of the same name. Only the type: the project casts by its own rule.
#pragma once

struct __nv_bfloat16 {
  unsigned short bits;
};
