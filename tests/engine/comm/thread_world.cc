#include "tests/engine/comm/thread_world.h"

#include <barrier>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "engine/comm/internal/ranked_communicator.h"
#include "engine/comm/internal/transport.h"
#include "tests/or_die.h"

namespace strata::engine {
namespace {

struct Message {
  std::span<const std::byte> bytes;
  std::shared_ptr<std::vector<std::byte>> copy;  // of one that was sent at once
  std::shared_ptr<bool> is_read;
};

// What ranks share. Messages are kept by channel, sender, receiver and tag.
struct Hub {
  explicit Hub(const ThreadWorld& described)
      : world(described), meeting(static_cast<ptrdiff_t>(described.machines.size())) {
    met.resize(described.machines.size());
    notices.resize(described.machines.size());
  }
  using Key = std::tuple<ChannelId, uint32_t, uint32_t, MessageTag>;

  const ThreadWorld& world;
  std::barrier<> meeting;
  std::mutex mutex;
  std::vector<std::vector<std::byte>> met;
  std::map<Key, std::deque<Message>> mail;
  std::vector<std::deque<std::string>> notices;
};

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(Hub* hub, uint32_t rank) : hub_(*hub), rank_(rank) {}
  // The memory of a rank goes with its communicator, and the others may still look at it.
  ~ThreadTransport() override { hub_.meeting.arrive_and_wait(); }

  uint32_t rank() const override { return rank_; }
  uint32_t world_size() const override { return static_cast<uint32_t>(hub_.met.size()); }
  std::string name() const override { return "threads"; }
  std::string description() const override { return "threads"; }
  uint32_t first_rank_of_machine() const override { return hub_.world.machines[rank_]; }

  Status Meet(std::span<const std::byte> mine, std::span<std::byte> of_all) override {
    hub_.met[rank_].assign(mine.begin(), mine.end());
    hub_.meeting.arrive_and_wait();
    for (size_t peer = 0; peer < hub_.met.size(); ++peer)
      std::memcpy(of_all.data() + peer * mine.size(), hub_.met[peer].data(), mine.size());
    hub_.meeting.arrive_and_wait();
    return OkStatus();
  }

  // Short ones and every other one are sent at once, the rest is read by who receives it.
  Result<MessageHandle> Send(ChannelId channel, uint32_t peer, MessageTag tag,
                             std::span<const std::byte> bytes) override {
    std::lock_guard lock(hub_.mutex);
    Message message{bytes, nullptr, std::make_shared<bool>(false)};
    const MessageHandle handle = ++num_handles_;
    if (handle % 2 == 0 || bytes.size() < 1024) {
      message.copy = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
      message.bytes = *message.copy;
      *message.is_read = true;
    }
    sends_[handle] = message.is_read;
    hub_.mail[{channel, rank_, peer, tag}].push_back(std::move(message));
    return handle;
  }

  Result<MessageHandle> Receive(ChannelId channel, uint32_t peer, MessageTag tag,
                                std::span<std::byte> into) override {
    std::lock_guard lock(hub_.mutex);
    const MessageHandle handle = ++num_handles_;
    receives_.push_back({handle, {channel, peer, rank_, tag}, into});
    return handle;
  }

  Status Poll(std::span<MessageHandle> handles) override {
    std::lock_guard lock(hub_.mutex);
    if (++num_polls_ % 3 != 0 && !Deliver())
      return Status(Code::kIoError, "a message is not as long as was expected");
    for (MessageHandle& handle : handles) {
      const auto sent = sends_.find(handle);
      const bool is_over = sent != sends_.end()
                               ? *sent->second
                               : std::none_of(receives_.begin(), receives_.end(),
                                              [&](const auto& r) { return r.handle == handle; });
      if (!is_over) continue;
      if (sent != sends_.end()) sends_.erase(sent);
      handle = 0;
    }
    return OkStatus();
  }

  void SendNotice(uint32_t peer, std::string_view text) override {
    std::lock_guard lock(hub_.mutex);
    hub_.notices[peer].emplace_back(text);
  }
  void FlushNotices() override {}
  std::optional<std::string> ReceiveNotice() override {
    std::lock_guard lock(hub_.mutex);
    if (hub_.notices[rank_].empty()) return std::nullopt;
    std::string text = std::move(hub_.notices[rank_].front());
    hub_.notices[rank_].pop_front();
    return text;
  }
  // The memory of what this rank has sent may go now.
  void SetBroken() override {
    std::lock_guard lock(hub_.mutex);
    for (auto& [key, messages] : hub_.mail) {
      if (std::get<1>(key) != rank_) continue;
      for (Message& message : messages) {
        message.copy =
            std::make_shared<std::vector<std::byte>>(message.bytes.begin(), message.bytes.end());
        message.bytes = *message.copy;
      }
    }
  }

 private:
  struct Receiving {
    MessageHandle handle;
    Hub::Key key;
    std::span<std::byte> into;
  };

  // False when a message was not what was expected.
  bool Deliver() {
    bool is_right = true;
    std::erase_if(receives_, [&](const Receiving& receiving) {
      std::deque<Message>& mail = hub_.mail[receiving.key];
      if (mail.empty()) return false;
      const Message message = std::move(mail.front());
      mail.pop_front();
      is_right = is_right && message.bytes.size() == receiving.into.size();
      if (!is_right) return true;
      std::memcpy(receiving.into.data(), message.bytes.data(), message.bytes.size());
      *message.is_read = true;
      return true;
    });
    return is_right;
  }

  Hub& hub_;
  const uint32_t rank_;
  MessageHandle num_handles_ = 0;
  uint64_t num_polls_ = 0;
  std::map<MessageHandle, std::shared_ptr<bool>> sends_;
  std::vector<Receiving> receives_;
};

}  // namespace

ThreadWorld MachinesOf(const std::vector<uint32_t>& num_ranks) {
  ThreadWorld world;
  for (const uint32_t num : num_ranks) {
    const auto first = static_cast<uint32_t>(world.machines.size());
    world.machines.insert(world.machines.end(), num, first);
  }
  return world;
}

void RunRanks(const ThreadWorld& world, const std::function<void(Communicator&)>& body) {
  Hub hub(world);
  std::vector<std::jthread> threads;
  for (uint32_t rank = 0; rank < world.machines.size(); ++rank) {
    threads.emplace_back([&, rank] {
      std::unique_ptr<Communicator> communicator = OrDie(
          MakeRankedCommunicator(std::make_unique<ThreadTransport>(&hub, rank), world.options));
      body(*communicator);
    });
  }
}

}  // namespace strata::engine
