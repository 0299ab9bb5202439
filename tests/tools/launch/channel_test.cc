// The two ends of a channel, and strangers: who does not know the secret, replays, or changes what
// others say.
#include "tools/launch/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tools/launch/event_loop.h"

namespace strata::launch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

struct Ends {
  Descriptor server;
  Descriptor client;
};
Ends Connected() {
  std::array<int, 2> fds = {};
  STRATA_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) == 0);
  return {Descriptor(fds[0]), Descriptor(fds[1])};
}

// What happened to one end.
struct Record {
  bool opened = false;
  std::vector<std::string> messages;
  std::vector<Code> closed;

  Channel::Callbacks Callbacks() {
    return {.on_open = [this] { opened = true; },
            .on_message =
                [this](char type, std::string_view payload) {
                  messages.push_back(type + std::string(payload));
                },
            .on_close = [this](const Status& why) { closed.push_back(why.code()); }};
  }
};

class ChannelTest : public testing::Test {
 protected:
  static std::optional<std::string> ServerSecret(ClientKind kind) {
    if (kind == ClientKind::kAgent) return "the secret of this job";
    return std::nullopt;
  }

  void Serve(Descriptor socket) {
    server_ = Channel::Serve(loop_, std::move(socket), ServerSecret, server_record_.Callbacks());
  }
  void Join(Descriptor socket, const std::string& secret, ClientKind kind = ClientKind::kAgent) {
    client_ = Channel::Join(loop_, std::move(socket), kind, secret, client_record_.Callbacks());
  }
  void Connect(const std::string& secret, ClientKind kind = ClientKind::kAgent) {
    Ends ends = Connected();
    Serve(std::move(ends.server));
    Join(std::move(ends.client), secret, kind);
    Settle();
  }
  // Until nothing moves any more: everything here is in this process.
  void Settle() {
    loop_.After(50ms, [this] { loop_.Stop(); });
    loop_.Run();
  }
  // The client's and the server's bytes through our hands.
  struct Tap {
    Descriptor to_client;
    Descriptor to_server;
    std::string from_client;
    std::string from_server;
  };
  Tap Intercept() {
    Ends a = Connected();
    Ends b = Connected();
    Serve(std::move(b.server));
    Join(std::move(a.client), "the secret of this job");
    return {std::move(a.server), std::move(b.client), {}, {}};
  }
  static std::string Take(const Descriptor& from) {
    std::array<char, 4096> buffer;
    ssize_t count = recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return count > 0 ? std::string(buffer.data(), static_cast<size_t>(count)) : "";
  }
  static void Give(const Descriptor& to, const std::string& bytes) {
    ASSERT_EQ(send(to.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // Passes bytes on until both ends are open.
  void PassOn(Tap& tap) {
    for (int i = 0; i < 4; ++i) {
      Settle();
      tap.from_client = Take(tap.to_client);
      tap.from_server = Take(tap.to_server);
      if (!tap.from_client.empty()) Give(tap.to_server, tap.from_client);
      if (!tap.from_server.empty()) Give(tap.to_client, tap.from_server);
    }
    Settle();
  }

  EventLoop loop_;
  Record server_record_;
  Record client_record_;
  std::unique_ptr<Channel> server_;
  std::unique_ptr<Channel> client_;
};

TEST_F(ChannelTest, EndsThatKnowTheSameSecretTalkInOrder) {
  Connect("the secret of this job");
  ASSERT_TRUE(server_->is_open() && client_->is_open());
  client_->Send('a', "one");
  client_->Send('b', "");
  server_->Send('c', std::string("\0\n", 2));
  Settle();
  EXPECT_THAT(server_record_.messages, ElementsAre("aone", "b"));
  EXPECT_THAT(client_record_.messages, ElementsAre(std::string("c\0\n", 3)));
}

TEST_F(ChannelTest, MessagesLargerThanASocketTakesArriveWhole) {
  Connect("the secret of this job");
  const std::string large(Channel::kMaxPayloadBytes, 'x');
  for (int i = 0; i < 5; ++i) client_->Send('m', large);
  for (int i = 0; i < 20 && server_record_.messages.size() < 5; ++i) Settle();
  ASSERT_EQ(server_record_.messages.size(), 5u);
  EXPECT_EQ(server_record_.messages[4], "m" + large);
}

TEST_F(ChannelTest, WhoDoesNotKnowTheSecretIsRefusedBeforeAnythingIsRead) {
  Connect("another secret");
  EXPECT_FALSE(server_record_.opened);
  EXPECT_FALSE(client_record_.opened);
  EXPECT_THAT(server_record_.closed, ElementsAre(Code::kPermissionDenied));
  EXPECT_THAT(client_record_.closed, ElementsAre(Code::kPermissionDenied));
}

TEST_F(ChannelTest, AKindThatIsNotServedIsRefused) {
  Connect("the secret of this job", ClientKind::kNode);
  EXPECT_THAT(server_record_.closed, ElementsAre(Code::kPermissionDenied));
  EXPECT_FALSE(client_record_.opened);
}

TEST_F(ChannelTest, OtherProtocolsAreRefused) {
  Ends ends = Connected();
  Serve(std::move(ends.server));
  Give(ends.client, "GET / HTTP/1.1\r\n\r\n");
  Settle();
  EXPECT_THAT(server_record_.closed, ElementsAre(Code::kPermissionDenied));
  EXPECT_EQ(Take(ends.client), "");  // nothing is said to strangers
}

// A server that does not know the secret must not get commands obeyed.
TEST_F(ChannelTest, AClientIsNotTakenInByAServerThatOnlyEchoes) {
  Ends ends = Connected();
  Join(std::move(ends.client), "the secret of this job");
  Settle();
  // Its own number comes back as the server's, then its own proof as the server's.
  std::string hello = Take(ends.server);
  hello[hello.find(' ') + 1] = 'S';
  Give(ends.server, hello);
  Settle();
  const std::string proof = Take(ends.server);
  ASSERT_EQ(proof.size(), sizeof(Digest));
  Give(ends.server, proof);
  Settle();
  EXPECT_FALSE(client_record_.opened);
  EXPECT_THAT(client_record_.closed, ElementsAre(Code::kPermissionDenied));
}

TEST_F(ChannelTest, AServerThatSendsItsOwnProofOfNothingIsRefused) {
  Ends ends = Connected();
  Join(std::move(ends.client), "the secret of this job");
  Settle();
  std::string hello = Take(ends.server);
  hello[hello.find(' ') + 1] = 'S';
  Give(ends.server, hello + std::string(32, '\0'));
  Settle();
  EXPECT_FALSE(client_record_.opened);
  EXPECT_THAT(client_record_.closed, ElementsAre(Code::kPermissionDenied));
}

TEST_F(ChannelTest, WhatWasSaidBeforeProvesNothingTheNextTime) {
  // Listen in on a whole good conversation's beginning...
  Tap tap = Intercept();
  std::string from_client;
  for (int i = 0; i < 4; ++i) {
    Settle();
    const std::string up = Take(tap.to_client);
    const std::string down = Take(tap.to_server);
    from_client += up;
    if (!up.empty()) Give(tap.to_server, up);
    if (!down.empty()) Give(tap.to_client, down);
  }
  Settle();
  ASSERT_TRUE(server_record_.opened);
  // ... and say it again to the same server.
  server_record_ = {};
  Ends ends = Connected();
  Serve(std::move(ends.server));
  Give(ends.client, from_client);
  Settle();
  EXPECT_FALSE(server_record_.opened);
  EXPECT_THAT(server_record_.closed, ElementsAre(Code::kPermissionDenied));
}

TEST_F(ChannelTest, AMessageChangedOnTheWayEndsTheChannelUnread) {
  Tap tap = Intercept();
  PassOn(tap);
  ASSERT_TRUE(client_->is_open() && server_->is_open());
  server_->Send('D', "orted");
  Settle();
  std::string bytes = Take(tap.to_server);
  bytes[bytes.find("orted")] = 'X';
  Give(tap.to_client, bytes);
  Settle();
  EXPECT_THAT(client_record_.messages, IsEmpty());
  EXPECT_THAT(client_record_.closed, ElementsAre(Code::kDataLoss));
}

TEST_F(ChannelTest, AMessageSentTwiceOnTheWayIsReadOnce) {
  Tap tap = Intercept();
  PassOn(tap);
  server_->Send('D', "orted");
  Settle();
  const std::string bytes = Take(tap.to_server);
  Give(tap.to_client, bytes + bytes);
  Settle();
  EXPECT_THAT(client_record_.messages, ElementsAre("Dorted"));
  EXPECT_THAT(client_record_.closed, ElementsAre(Code::kDataLoss));
}

TEST_F(ChannelTest, AnEndThatGoesIsSeen) {
  Connect("the secret of this job");
  client_.reset();
  Settle();
  EXPECT_THAT(server_record_.closed, ElementsAre(Code::kUnavailable));
}

}  // namespace
}  // namespace strata::launch
