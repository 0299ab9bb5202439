// A TCP port of this machine that nobody uses now.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

#include "aio/base/address.h"
#include "aio/base/check.h"
#include "tests/or_die.h"

namespace strata::engine {

inline uint16_t FreePort() {
  const Descriptor listener = OrDie(ListenOn("127.0.0.1:0"));
  sockaddr_in name = {};
  socklen_t size = sizeof(name);
  STRATA_CHECK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  return ntohs(name.sin_port);
}

}  // namespace strata::engine
