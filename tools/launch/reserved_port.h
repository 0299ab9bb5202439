// A port for somebody who will listen on it later.
#pragma once

#include <cstdint>

#include "aio/base/descriptor.h"
#include "aio/base/status.h"

namespace strata::launch {

// While it lives, the kernel gives the port to nobody who asks for any; who asks for this one, as
// ListenOn() does, gets it.
class ReservedPort {
 public:
  static Result<ReservedPort> Find();
  uint16_t port() const { return port_; }

 private:
  ReservedPort(Descriptor socket, uint16_t port) : socket_(std::move(socket)), port_(port) {}

  Descriptor socket_;  // bound, and not listening
  uint16_t port_;
};

}  // namespace strata::launch
