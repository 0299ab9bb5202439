#include "tools/launch/server.h"

#include <sys/socket.h>

#include <algorithm>

#include "aio/base/address.h"

namespace strata::launch {
namespace {

constexpr ListenAdvice kAdvice = {
    .port_in_use = "choose another --master-port on every node",
    .host_name = "--master-addr",
    .not_here = "node-rank 0 must be started where --master-addr points to"};

// More that have not shown who they are would only use up our descriptors.
constexpr size_t kMaxChannels = 1 << 16;

}  // namespace

Server::Server(EventLoop& loop, Channel::SecretOf secret_of, Callbacks callbacks)
    : loop_(loop), secret_of_(std::move(secret_of)), callbacks_(std::move(callbacks)) {}

Server::~Server() {
  for (const Descriptor& listener : listeners_) loop_.Forget(listener.get());
}

Status Server::Listen(const std::string& address) {
  STRATA_ASSIGN_OR_RETURN(Descriptor listener, ListenOn(address, kAdvice));
  const int fd = listener.get();
  listeners_.push_back(std::move(listener));
  loop_.Watch(fd, POLLIN, [this, fd](short) { AcceptAll(fd); });
  return OkStatus();
}

bool Server::is_flushed() const {
  return std::all_of(channels_.begin(), channels_.end(),
                     [](const auto& channel) { return channel->is_flushed(); });
}

void Server::AcceptAll(int listener) {
  for (;;) {
    Descriptor socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.is_open()) return;  // none left, or one that went away again
    if (channels_.size() < kMaxChannels) Serve(std::move(socket));
  }
}

void Server::Serve(Descriptor socket) {
  const auto place = channels_.insert(channels_.end(), nullptr);
  *place = Channel::Serve(loop_, std::move(socket), secret_of_,
                          {.on_open = {},
                           .on_message =
                               [this, place](char type, std::string_view payload) {
                                 callbacks_.on_message(place->get(), Message{type}, payload);
                               },
                           .on_close =
                               [this, place](const Status& why) {
                                 if (why.code() == Code::kPermissionDenied)
                                   callbacks_.on_stranger(why);
                                 callbacks_.on_close(place->get(), why);
                                 loop_.Soon([this, place] { channels_.erase(place); });
                               }});
}

}  // namespace strata::launch
