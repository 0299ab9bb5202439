// The launcher's end of a job's channels.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "tools/launch/channel.h"
#include "tools/launch/event_loop.h"
#include "tools/launch/messages.h"

namespace strata::launch {

class Server {
 public:
  struct Callbacks {
    std::function<void(Channel* peer, Message type, std::string_view payload)> on_message;
    // The channel is gone after it.
    std::function<void(Channel* peer, const Status& why)> on_close;
    // Somebody who is not of this job was turned away.
    std::function<void(const Status& why)> on_stranger;
  };
  Server(EventLoop& loop, Channel::SecretOf secret_of, Callbacks callbacks);
  ~Server();
  Server(const Server&) = delete;

  // See ListenOn().
  Status Listen(const std::string& address);

  // True when nothing that was sent to these still waits here.
  bool is_flushed() const;

 private:
  void AcceptAll(int listener);
  void Serve(Descriptor socket);

  EventLoop& loop_;
  Channel::SecretOf secret_of_;
  Callbacks callbacks_;
  std::vector<Descriptor> listeners_;
  std::list<std::unique_ptr<Channel>> channels_;
};

}  // namespace strata::launch
