#include "tests/engine/kernels/thread_orders.h"
#include "tests/fakes/cuda/emulator.h"

namespace strata::engine {

void ForEachThreadOrder(const std::function<void(const std::string& name)>& visit) {
  using fakes::cuda::SetThreadOrder;
  using fakes::cuda::ThreadOrder;
  SetThreadOrder(ThreadOrder::kDescending);
  visit("descending");
  SetThreadOrder(ThreadOrder::kShuffled, 5);
  visit("shuffled");
  SetThreadOrder(ThreadOrder::kAscending);
  visit("ascending");
}

}  // namespace strata::engine
