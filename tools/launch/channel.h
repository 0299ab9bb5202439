// A connection whose two ends have shown each other that they know the same secret.
//
// Both send a random number, the client proves first: HMAC(secret, "client", both numbers), then
// the server. Nothing else is read or sent before. From then on every message carries its own HMAC
// over its place in the sequence, so that nobody in between can add, change, drop or repeat one.
// What is sent is not encrypted.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "aio/base/descriptor.h"
#include "aio/base/status.h"
#include "tools/launch/event_loop.h"
#include "tools/launch/sha256.h"

namespace strata::launch {

// What a client says it is. Each kind has its secret.
enum class ClientKind : char {
  kNode = 'N',   // another node's launcher
  kAgent = 'A',  // what this job's launcher started
};

// Owned by one event loop's thread. May be destroyed in its own callbacks only by way of
// EventLoop::Soon().
class Channel {
 public:
  struct Callbacks {
    std::function<void()> on_open;
    std::function<void(char type, std::string_view payload)> on_message;
    // Once, last. kPermissionDenied: the ends do not know the same secret. kUnavailable: the other
    // end closed. kDataLoss: what came was not from it.
    std::function<void(const Status& why)> on_close;
  };
  // Nothing for a kind that is not served here.
  using SecretOf = std::function<std::optional<std::string>(ClientKind kind)>;

  static std::unique_ptr<Channel> Serve(EventLoop& loop, Descriptor socket, SecretOf secret_of,
                                        Callbacks callbacks);
  static std::unique_ptr<Channel> Join(EventLoop& loop, Descriptor socket, ClientKind kind,
                                       std::string secret, Callbacks callbacks);
  ~Channel();
  Channel(const Channel&) = delete;

  // Never blocks: what the socket does not take waits here. Only when open; after the end, nothing
  // happens.
  void Send(char type, std::string_view payload);
  bool is_open() const { return state_ == State::kOpen; }
  // True when all that was sent has left for the kernel.
  bool is_flushed() const { return out_.empty(); }
  ClientKind kind() const { return kind_; }
  const std::string& peer() const { return peer_; }

  static constexpr size_t kMaxPayloadBytes = 1 << 20;

 private:
  enum class State { kHello, kProof, kOpen, kClosed };
  enum class End { kServer, kClient };

  Channel(EventLoop& loop, Descriptor socket, End end, Callbacks callbacks);
  void OnEvent(short revents);
  void ReadAll();
  void WriteSome();
  void ParseAll();
  // True when something was taken from in_.
  bool ParseOne();
  bool ParseHello();
  bool ParseProof();
  bool ParseMessage();
  void SendHello();
  void Open();
  Digest Proof(std::string_view whose) const;
  void Put(std::string_view bytes);
  void Close(const Status& why);

  EventLoop& loop_;
  Descriptor socket_;
  const End end_;
  Callbacks callbacks_;
  SecretOf secret_of_;  // of a server
  std::string secret_;
  ClientKind kind_ = ClientKind::kAgent;
  std::string peer_;
  State state_ = State::kHello;
  std::string in_;
  std::string out_;
  Digest own_nonce_{};
  Digest client_nonce_{};
  Digest server_nonce_{};
  Digest send_key_{};
  Digest receive_key_{};
  uint64_t num_sent_ = 0;
  uint64_t num_received_ = 0;
  std::optional<EventLoop::TimerId> handshake_deadline_;
};

}  // namespace strata::launch
