#include "tools/launch/channel.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "aio/base/address.h"

namespace strata::launch {
namespace {

constexpr std::string_view kMagic = "strata-launch-1 ";
constexpr size_t kHelloBytes = kMagic.size() + 1 + sizeof(Digest);
constexpr char kServerLetter = 'S';
constexpr size_t kLengthBytes = 4;
constexpr auto kHandshakeTime = std::chrono::seconds(10);

std::string BigEndian(uint64_t number, size_t num_bytes) {
  std::string bytes(num_bytes, '\0');
  for (size_t i = 0; i < num_bytes; ++i)
    bytes[i] = static_cast<char>(number >> (8 * (num_bytes - 1 - i)));
  return bytes;
}

uint32_t LengthOf(std::string_view bytes) {
  uint32_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length = length << 8 | static_cast<uint8_t>(bytes[i]);
  return length;
}

Digest ToDigest(std::string_view bytes) {
  Digest digest;
  std::memcpy(digest.data(), bytes.data(), digest.size());
  return digest;
}

Digest Seal(const Digest& key, uint64_t number, std::string_view message) {
  return HmacSha256(AsBytes(key), BigEndian(number, 8) + std::string(message));
}

Status NotTheSameSecret(const std::string& peer) {
  return {Code::kPermissionDenied, fmt::format("{} does not know the same secret", peer)};
}

}  // namespace

Channel::Channel(EventLoop& loop, Descriptor socket, End end, Callbacks callbacks)
    : loop_(loop),
      socket_(std::move(socket)),
      end_(end),
      callbacks_(std::move(callbacks)),
      peer_(PeerOf(socket_.get())) {
  Result<Digest> nonce = RandomDigest();
  STRATA_CHECK(nonce.ok());
  own_nonce_ = *nonce;
  NoticeDeadPeers(socket_.get());
  loop_.Watch(socket_.get(), POLLIN, [this](short revents) { OnEvent(revents); });
  handshake_deadline_ = loop_.After(kHandshakeTime, [this] {
    handshake_deadline_.reset();
    Close(Unavailable(fmt::format("{} said nothing that a launcher would say", peer_)));
  });
}

std::unique_ptr<Channel> Channel::Serve(EventLoop& loop, Descriptor socket, SecretOf secret_of,
                                        Callbacks callbacks) {
  std::unique_ptr<Channel> channel(
      new Channel(loop, std::move(socket), End::kServer, std::move(callbacks)));
  channel->secret_of_ = std::move(secret_of);
  return channel;
}

std::unique_ptr<Channel> Channel::Join(EventLoop& loop, Descriptor socket, ClientKind kind,
                                       std::string secret, Callbacks callbacks) {
  std::unique_ptr<Channel> channel(
      new Channel(loop, std::move(socket), End::kClient, std::move(callbacks)));
  channel->kind_ = kind;
  channel->secret_ = std::move(secret);
  channel->SendHello();
  return channel;
}

Channel::~Channel() {
  if (handshake_deadline_) loop_.Cancel(*handshake_deadline_);
  if (socket_.is_open()) loop_.Forget(socket_.get());
}

void Channel::SendHello() {
  const char letter = end_ == End::kServer ? kServerLetter : static_cast<char>(kind_);
  Put(std::string(kMagic) + letter + std::string(AsBytes(own_nonce_)));
}

void Channel::OnEvent(short revents) {
  if ((revents & POLLOUT) != 0) WriteSome();
  if (state_ != State::kClosed && (revents & (POLLIN | POLLHUP | POLLERR)) != 0) ReadAll();
}

void Channel::ReadAll() {
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t count = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) {
      in_.append(buffer.data(), static_cast<size_t>(count));
      ParseAll();
      if (state_ == State::kClosed) return;
    } else if (count == 0) {
      // Who proves itself and is hung up on did not prove it.
      Close(state_ == State::kProof && end_ == End::kClient
                ? NotTheSameSecret(peer_)
                : Unavailable(fmt::format("{} closed the connection", peer_)));
      return;
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      Close(Unavailable(fmt::format("{}: {}", peer_, std::strerror(errno))));
      return;
    }
  }
}

void Channel::Put(std::string_view bytes) {
  out_ += bytes;
  WriteSome();
}

void Channel::WriteSome() {
  while (!out_.empty()) {
    const ssize_t count = send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (count > 0) {
      out_.erase(0, static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      out_.clear();  // the reader of the socket sees its end, too, after what came before it
    }
  }
  const short events = static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT);
  loop_.Watch(socket_.get(), events, [this](short revents) { OnEvent(revents); });
}

void Channel::ParseAll() {
  while (state_ != State::kClosed && ParseOne()) {
  }
}

bool Channel::ParseOne() {
  switch (state_) {
    case State::kHello:
      return ParseHello();
    case State::kProof:
      return ParseProof();
    case State::kOpen:
      return ParseMessage();
    case State::kClosed:
      return false;
  }
  return false;
}

bool Channel::ParseHello() {
  const size_t comparable = std::min(in_.size(), kMagic.size());
  if (in_.substr(0, comparable) != kMagic.substr(0, comparable)) {
    Close({Code::kPermissionDenied,
           fmt::format("{} speaks no or another version of this launcher's protocol", peer_)});
    return false;
  }
  if (in_.size() < kHelloBytes) return false;
  const char letter = in_[kMagic.size()];
  const Digest nonce = ToDigest(std::string_view(in_).substr(kMagic.size() + 1));
  in_.erase(0, kHelloBytes);
  client_nonce_ = end_ == End::kClient ? own_nonce_ : nonce;
  server_nonce_ = end_ == End::kServer ? own_nonce_ : nonce;
  state_ = State::kProof;
  if (end_ == End::kClient) {
    if (letter != kServerLetter) {
      Close(NotTheSameSecret(peer_));
      return false;
    }
    Put(AsBytes(Proof("client")));
    return true;
  }
  kind_ = static_cast<ClientKind>(letter);
  const bool is_kind = kind_ == ClientKind::kNode || kind_ == ClientKind::kAgent;
  std::optional<std::string> secret = is_kind ? secret_of_(kind_) : std::nullopt;
  if (!secret) {
    Close(NotTheSameSecret(peer_));
    return false;
  }
  secret_ = *secret;
  SendHello();
  return true;
}

Digest Channel::Proof(std::string_view whose) const {
  std::string text(whose);
  text += static_cast<char>(kind_);
  text += AsBytes(client_nonce_);
  text += AsBytes(server_nonce_);
  return HmacSha256(secret_, text);
}

bool Channel::ParseProof() {
  if (in_.size() < sizeof(Digest)) return false;
  const Digest proof = ToDigest(in_);
  in_.erase(0, sizeof(Digest));
  if (!Equal(proof, Proof(end_ == End::kServer ? "client" : "server"))) {
    Close(NotTheSameSecret(peer_));
    return false;
  }
  if (end_ == End::kServer) Put(AsBytes(Proof("server")));
  Open();
  return true;
}

void Channel::Open() {
  const Digest to_server = Proof("to server");
  const Digest to_client = Proof("to client");
  send_key_ = end_ == End::kServer ? to_client : to_server;
  receive_key_ = end_ == End::kServer ? to_server : to_client;
  state_ = State::kOpen;
  if (handshake_deadline_) loop_.Cancel(*handshake_deadline_);
  handshake_deadline_.reset();
  if (callbacks_.on_open) callbacks_.on_open();
}

void Channel::Send(char type, std::string_view payload) {
  if (state_ == State::kClosed) return;
  STRATA_CHECK(state_ == State::kOpen);
  STRATA_CHECK(payload.size() <= kMaxPayloadBytes);
  std::string message = std::string(1, type) + std::string(payload);
  const Digest seal = Seal(send_key_, num_sent_++, message);
  Put(BigEndian(message.size(), kLengthBytes) + message + std::string(AsBytes(seal)));
}

bool Channel::ParseMessage() {
  if (in_.size() < kLengthBytes) return false;
  const size_t length = LengthOf(in_);
  if (length == 0 || length > kMaxPayloadBytes + 1) {
    Close(DataLoss(fmt::format("{} sent {} bytes as one message", peer_, length)));
    return false;
  }
  const size_t total = kLengthBytes + length + sizeof(Digest);
  if (in_.size() < total) return false;
  const std::string message = in_.substr(kLengthBytes, length);
  const Digest seal = ToDigest(std::string_view(in_).substr(kLengthBytes + length));
  in_.erase(0, total);
  if (!Equal(seal, Seal(receive_key_, num_received_++, message))) {
    Close(DataLoss(fmt::format("a message in the name of {} was not sent by it", peer_)));
    return false;
  }
  callbacks_.on_message(message[0], std::string_view(message).substr(1));
  return true;
}

void Channel::Close(const Status& why) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  if (handshake_deadline_) loop_.Cancel(*handshake_deadline_);
  handshake_deadline_.reset();
  loop_.Forget(socket_.get());
  socket_.Close();
  callbacks_.on_close(why);
}

}  // namespace strata::launch
