// Plans written by hand, small enough to be checked by eye.
#pragma once

#include "prefetch/step_plan.h"

namespace strata::prefetch {

// A step with one of everything: a streamed weight, a gradient, a block at home in host memory, a
// cached block, a spilled one, workspaces, and slots that are used twice.
//
// | node | what                    | needs | where                                   |
// |------|-------------------------|-------|-----------------------------------------|
// | 0    | read w                  |       | nvme -> host 0                          |
// | 1    | copy in w               | 0     | host 0 -> device 0                      |
// | 2    | run forward             | 1     | w device 0, g device 2, workspace dev 4 |
// | 3    | run backward            |       | g device 2, w device 0                  |
// | 4    | copy out g              | 3     | device 2 -> host 2                      |
// | 5    | run update              | 0, 4  | w host 0, g host 2, m host 4, c host 5  |
// | 6    | write w                 | 5     | host 0 -> nvme                          |
// | 7    | write c                 | 5     | host 5 -> nvme                          |
// | 8    | read v                  | 6     | nvme -> host 0                          |
// | 9    | copy in v               | 3, 8  | host 0 -> device 0                      |
// | 10   | run check               | 9     | v device 0                              |
// | 11   | run stash               |       | s host 2                                |
// | 12   | write s                 | 11    | host 2 -> nvme                          |
// | 13   | read s                  | 9, 12 | nvme -> host 0                          |
// | 14   | run unstash             | 13    | s host 0, workspace host 2              |
//
// Places are in pages of 4096 bytes; w, g, v and s take two, the others one.
StepPlan HandPlan();

// `count` reads of blocks b0, b1... of two pages each on nvme, each into its own host slot.
StepPlan ReadsOnly(uint32_t count);

Slot Pages(Tier tier, uint64_t first, uint64_t count);

}  // namespace strata::prefetch
