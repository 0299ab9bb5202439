#include "tests/engine/kernels/thread_orders.h"

namespace strata::engine {

void ForEachThreadOrder(const std::function<void(const std::string& name)>& visit) {
  visit("the GPU's");
  visit("the GPU's, again");
}

}  // namespace strata::engine
