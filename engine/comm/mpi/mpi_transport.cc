// Messages between ranks by MPI. Only what a Transport is: no collective of the library's is used
// once the ranks have met.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/comm/internal/plugin.h"
#include "engine/comm/mpi/mpi_library.h"

namespace strata::engine {
namespace {

constexpr int kNoticeTag = 0;
constexpr size_t kLongestNotice = 1000;
constexpr std::chrono::milliseconds kTimeForNotices(200);

MessageHandle HandleOf(MPI_Request request) {
  static_assert(sizeof(request) <= sizeof(MessageHandle));
  if (request == MPI_REQUEST_NULL) return 0;
  MessageHandle handle = 0;
  std::memcpy(&handle, &request, sizeof(request));
  return handle;
}

MPI_Request RequestOf(MessageHandle handle) {
  MPI_Request request = MPI_REQUEST_NULL;
  if (handle != 0) std::memcpy(&request, &handle, sizeof(request));
  return request;
}

int CountOf(size_t size_bytes) {
  STRATA_CHECK(size_bytes <= INT_MAX);
  return static_cast<int>(size_bytes);
}

class MpiTransport final : public Transport {
 public:
  // Owns a use of the library from the moment it exists.
  static Result<std::unique_ptr<Transport>> Create() {
    auto transport = std::unique_ptr<MpiTransport>(new MpiTransport);
    STRATA_RETURN_IF_ERROR(transport->FindPlace());
    STRATA_RETURN_IF_ERROR(transport->MakeCommunicators());
    return std::unique_ptr<Transport>(std::move(transport));
  }
  ~MpiTransport() override {
    // Freeing waits for others, who may be gone.
    if (!IsMpiBroken()) {
      for (MPI_Comm& communicator : communicators_)
        if (communicator != MPI_COMM_NULL) MPI_Comm_free(&communicator);
    }
    LeaveMpi();
  }

  uint32_t rank() const override { return rank_; }
  uint32_t world_size() const override { return world_size_; }
  std::string name() const override { return "mpi"; }
  std::string description() const override { return DescribeMpiLibrary(); }
  uint32_t first_rank_of_machine() const override { return first_rank_of_machine_; }

  Status Meet(std::span<const std::byte> mine, std::span<std::byte> of_all) override {
    STRATA_CHECK(of_all.size() == mine.size() * world_size_);
    return MpiStatus(MPI_Allgather(mine.data(), CountOf(mine.size()), MPI_BYTE, of_all.data(),
                                   CountOf(mine.size()), MPI_BYTE, notices()),
                     "meet the other ranks");
  }

  Result<MessageHandle> Send(ChannelId channel, uint32_t peer, MessageTag tag,
                             std::span<const std::byte> bytes) override {
    MPI_Request request = MPI_REQUEST_NULL;
    STRATA_RETURN_IF_ERROR(
        MpiStatus(MPI_Isend(bytes.data(), CountOf(bytes.size()), MPI_BYTE, static_cast<int>(peer),
                            static_cast<int>(tag), communicator(channel), &request),
                  "send"));
    return HandleOf(request);
  }

  Result<MessageHandle> Receive(ChannelId channel, uint32_t peer, MessageTag tag,
                                std::span<std::byte> into) override {
    MPI_Request request = MPI_REQUEST_NULL;
    STRATA_RETURN_IF_ERROR(
        MpiStatus(MPI_Irecv(into.data(), CountOf(into.size()), MPI_BYTE, static_cast<int>(peer),
                            static_cast<int>(tag), communicator(channel), &request),
                  "receive"));
    return HandleOf(request);
  }

  Status Poll(std::span<MessageHandle> handles) override {
    std::vector<MPI_Request> requests(handles.size());
    std::vector<int> over(handles.size());
    std::transform(handles.begin(), handles.end(), requests.begin(), &RequestOf);
    std::vector<MPI_Status> statuses(handles.size());
    int num_over = 0;
    int code = MPI_Testsome(CountOf(requests.size()), requests.data(), &num_over, over.data(),
                            statuses.data());
    std::transform(requests.begin(), requests.end(), handles.begin(), &HandleOf);
    for (int i = 0; code == MPI_ERR_IN_STATUS && i < num_over; ++i)
      if (statuses[static_cast<size_t>(i)].MPI_ERROR != MPI_SUCCESS)
        code = statuses[static_cast<size_t>(i)].MPI_ERROR;
    return MpiStatus(code, "move messages on");
  }

  void SendNotice(uint32_t peer, std::string_view text) override {
    std::lock_guard lock(notices_mutex_);
    const std::string& kept = sent_notices_.emplace_back(text.substr(0, kLongestNotice));
    MPI_Request request = MPI_REQUEST_NULL;
    // What cannot be told, the other side finds out at its deadline.
    if (MPI_Isend(kept.data(), CountOf(kept.size()), MPI_BYTE, static_cast<int>(peer), kNoticeTag,
                  notices(), &request) == MPI_SUCCESS)
      notices_under_way_.push_back(request);
  }

  // A first message to a rank needs an answer before it leaves.
  void FlushNotices() override {
    std::lock_guard lock(notices_mutex_);
    const auto end = std::chrono::steady_clock::now() + kTimeForNotices;
    for (int all_gone = 0; !all_gone && std::chrono::steady_clock::now() < end;) {
      if (MPI_Testall(CountOf(notices_under_way_.size()), notices_under_way_.data(), &all_gone,
                      MPI_STATUSES_IGNORE) != MPI_SUCCESS)
        return;
    }
  }

  std::optional<std::string> ReceiveNotice() override {
    std::lock_guard lock(notices_mutex_);
    int is_there = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, kNoticeTag, notices(), &is_there, &status) != MPI_SUCCESS ||
        !is_there)
      return std::nullopt;
    std::string text(kLongestNotice, '\0');
    int length = 0;
    if (MPI_Recv(text.data(), CountOf(text.size()), MPI_BYTE, status.MPI_SOURCE, kNoticeTag,
                 notices(), &status) != MPI_SUCCESS)
      return std::nullopt;
    if (MPI_Get_count(&status, MPI_BYTE, &length) != MPI_SUCCESS) return std::nullopt;
    text.resize(static_cast<size_t>(length));
    return text;
  }

  void SetBroken() override { SetMpiBroken(); }

 private:
  MpiTransport() { communicators_.fill(MPI_COMM_NULL); }

  Status FindPlace() {
    int rank = 0;
    int size = 0;
    STRATA_RETURN_IF_ERROR(MpiStatus(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "find this rank"));
    STRATA_RETURN_IF_ERROR(MpiStatus(MPI_Comm_size(MPI_COMM_WORLD, &size), "find the size"));
    rank_ = static_cast<uint32_t>(rank);
    world_size_ = static_cast<uint32_t>(size);
    MPI_Comm machine = MPI_COMM_NULL;
    STRATA_RETURN_IF_ERROR(MpiStatus(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine),
        "find the ranks of this machine"));
    const Status found =
        MpiStatus(MPI_Allreduce(&rank_, &first_rank_of_machine_, 1, MPI_UINT32_T, MPI_MIN, machine),
                  "find the first rank of this machine");
    MPI_Comm_free(&machine);
    return found;
  }

  // One for each channel, so that their messages do not meet, and one for notices.
  Status MakeCommunicators() {
    for (MPI_Comm& communicator : communicators_) {
      STRATA_RETURN_IF_ERROR(
          MpiStatus(MPI_Comm_dup(MPI_COMM_WORLD, &communicator), "make a channel"));
    }
    return OkStatus();
  }

  MPI_Comm communicator(ChannelId channel) const {
    return communicators_[static_cast<size_t>(channel)];
  }
  MPI_Comm notices() const { return communicators_.back(); }

  uint32_t rank_ = 0;
  uint32_t world_size_ = 1;
  uint32_t first_rank_of_machine_ = 0;
  std::array<MPI_Comm, kNumChannels + 1> communicators_;
  std::mutex notices_mutex_;
  std::vector<MPI_Request> notices_under_way_;
  std::deque<std::string> sent_notices_;  // the library reads them at its leisure
};

Result<std::unique_ptr<Transport>> Join(const RankEnvironment& environment) {
  STRATA_RETURN_IF_ERROR(StartMpi(environment));
  return MpiTransport::Create();
}

}  // namespace
}  // namespace strata::engine

extern "C" __attribute__((visibility("default")))
const strata::engine::TransportPlugin strata_transport_plugin;
const strata::engine::TransportPlugin strata_transport_plugin = {
    .build = strata::engine::kTransportPluginBuild,
    .join = &strata::engine::Join,
    .describe = &strata::engine::DescribeMpiLibrary};
