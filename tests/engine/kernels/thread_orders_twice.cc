#include "tests/engine/kernels/thread_orders.h"

namespace strata::engine {

void ForEachThreadOrder(const std::function<void(const std::string& name)>& visit) {
  visit("its own");
  visit("its own, again");
}

}  // namespace strata::engine
