// An independent checker of step plans. Written against the invariants of step_plan.h, not against
// how compile.cc works: it shares no code with it.
#pragma once

#include "aio/base/status.h"
#include "prefetch/step_plan.h"

namespace strata::prefetch {

// kInternal naming the node(s) and the broken invariant:
//  - every op of the trace runs exactly once, on its lane, in trace order per lane, and the data
//    dependencies of the trace (a version's writer before its readers; all readers before the next
//    writer) are ordered by happens-before;
//  - a block is resident in one slot at most, and only step blocks and blocks at home on nvme are
//  read
//    or written there;
//  - every slot lies inside its tier's budget, is aligned and large enough;
//  - dependencies point backwards; happens-before is dependencies plus the order of serial lanes;
//  - every node that reads bytes finds in them the block and version that it expects, put there by
//    a node that happens before it; and nobody writes bytes that someone may still be reading or
//    writing (two conflicting accesses to overlapping bytes are always ordered);
//  - a read from nvme gets the version it names: version 0 unless written in this step, else the
//    write happens before the read; a write to nvme never overtakes a read of the same block;
//  - at the end, residents hold the final versions in their slots, and every persistent block at
//    home on nvme that was written in the step has its final version written there.
Status Verify(const StepPlan& plan);

}  // namespace strata::prefetch
