// What NCCL does not do: adding up what the ranks have sent, in rank order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "aio/base/status.h"
#include "engine/kernels/dtype.h"
#include "tiering/device.h"

namespace strata::engine {

// What a rank adds up. Rank r's terms are at arrived + r * stride_bytes, this rank's own at `own`;
// all are aligned to their element.
struct RankTerms {
  const std::byte* own = nullptr;
  const std::byte* arrived = nullptr;
  size_t stride_bytes = 0;
  uint32_t rank = 0;
  uint32_t world_size = 1;
  // Over nodes: the ranks are those of one, before which comes what the nodes before have added
  // up, in fp32, and after which others may come.
  const std::byte* partial = nullptr;  // none on the first node
  bool is_partial = false;             // the sum is fp32, whatever its terms are
};

// out[i] = ((partial + term 0) + term 1) + ... in fp32, rounded once as Kernels' casts are: the
// bits of the sums of host memory. `out` may be `own`.
Status SumInRankOrder(const tiering::StreamContext& stream, const RankTerms& terms, DType dtype,
                      size_t num_elements, std::byte* out);

}  // namespace strata::engine
