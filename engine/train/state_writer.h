// A whole state is written, block by block, where it is at home.
#pragma once

#include <cstdint>
#include <functional>

#include "aio/base/status.h"
#include "engine/train/state_access.h"
#include "tiering/block_store.h"

namespace strata::engine {

// While a block is on its way to the store, the next one is made, where the staging has room for
// both. Thread-compatible; uses the access's staging as long as it lives. Dropped, it waits.
class StateWriter {
 public:
  using Bytes = StateAccess::Bytes;

  // `access` outlives it.
  explicit StateWriter(StateAccess& access) : access_(access) {}

  // Lets `fill` make the block's content (exactly size_bytes), and puts it where it is at home. A
  // block at home on nvme may not be there yet when this returns: should that fail, a later call
  // says so. kResourceExhausted, naming the block, when the staging is too small for it.
  Status Write(uint32_t block, const std::function<Status(Bytes)>& fill);
  // Waits until all that was written is where it is at home; before anybody reads or commits it.
  Status Finish();

 private:
  Result<Bytes> StageBesideWhatIsUnderWay(uint32_t block);

  StateAccess& access_;
  Bytes written_;  // of the staging, while the ticket is valid
  tiering::StoreTicket ticket_;
};

}  // namespace strata::engine
