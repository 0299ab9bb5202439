// One read or write of a block under way: the I/O, and what is to be done when it is over.
#pragma once

#include <functional>

#include "tiering/block_store.h"

namespace strata::tiering {

class StoreTicket::Operation {
 public:
  // Is told how the I/O ended and returns how the operation did. Called once.
  using End = std::function<Status(const Status& io_status)>;

  Operation(aio::IoTicket io, End end) : io_(std::move(io)), end_(std::move(end)) {}
  // One that failed before any I/O.
  explicit Operation(Status failure) : failure_(std::move(failure)) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  ~Operation();

  bool ready() const { return !io_.valid() || io_.ready(); }
  // Still under way and to be called again when it is not over() afterwards.
  Status Finish();
  bool over() const { return !end_; }

 private:
  aio::IoTicket io_;
  End end_;
  Status failure_;
};

}  // namespace strata::tiering
