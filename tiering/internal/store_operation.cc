#include "tiering/internal/store_operation.h"

namespace strata::tiering {

StoreTicket::Operation::~Operation() {
  if (!end_) return;
  io_ = aio::IoTicket();  // waits
  // Nobody is left who could be told how it ended.
  (void)end_(Status(Code::kCancelled, "the ticket was dropped"));
}

Status StoreTicket::Operation::Finish() {
  if (!end_) return failure_;
  Status io_status = io_.Wait();
  if (io_.valid()) return io_status;  // not over: the deadline has passed
  return std::exchange(end_, nullptr)(io_status);
}

StoreTicket::StoreTicket() = default;
StoreTicket::StoreTicket(std::unique_ptr<Operation> operation) : operation_(std::move(operation)) {}
StoreTicket::StoreTicket(StoreTicket&&) noexcept = default;
StoreTicket& StoreTicket::operator=(StoreTicket&&) noexcept = default;
StoreTicket::~StoreTicket() = default;

bool StoreTicket::ready() const {
  STRATA_CHECK(valid());
  return operation_->ready();
}

Status StoreTicket::Finish() {
  STRATA_CHECK(valid());
  Status status = operation_->Finish();
  if (operation_->over()) operation_.reset();
  return status;
}

}  // namespace strata::tiering
