// How ranks exchange numbers.
//
// A Communicator is this process's place among the ranks of the job. Its channels are independent
// sequences of collectives: every lane of the step has one of its own, so that a collective of one
// lane never waits for another lane's. A collective of host memory blocks the thread that calls it;
// it is asynchronous to the other lanes because each lane has a thread. One of GPU memory is put on
// the lane's stream and returns at once.
//
// `self` is the only rank. `mpi` and `tcp` are many: ranks of one node read each other's memory,
// nodes exchange messages (docs/decisions/0026, 0027). Once a rank has its GPU (UseGpu()), payloads
// in the memory of GPUs go by NCCL; agreement, failures and progress stay where they were
// (docs/decisions/0041). Sums are accumulated in fp32 in rank order, rounded once, so they have the
// same bits in every run, on every device, and however the ranks are spread over nodes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "aio/base/status.h"
#include "engine/comm/rank_environment.h"
#include "engine/kernels/dtype.h"
#include "tiering/device.h"

namespace strata::engine {

enum class Collective : uint8_t {
  kAllGather,
  kReduceScatter,
  kAllReduce,
  kBroadcast,
  kBarrier,
  kSum
};
inline constexpr size_t kNumCollectives = 6;
std::string_view CollectiveName(Collective collective);  // "all-gather"

enum class ChannelId : uint8_t { kControl, kCommLane, kCpuLane, kComputeLane };
inline constexpr size_t kNumChannels = 4;
std::string_view ChannelName(ChannelId channel);  // "comm lane"

// Thread-compatible: one collective at a time. On a channel all ranks call the same collectives
// with the same sizes in the same order; those that do not are told so (kInternal).
//
// A collective fails when a rank has ended (kUnavailable), makes no progress until the deadline
// (kDeadlineExceeded), or when somebody aborted; the message names the channel, the collective, its
// number on the channel and the rank. After the first failure of any channel on any rank, all
// collectives of all ranks fail, with the first one's message. What a collective returned that was
// under way then may be wrong on the ranks that had not heard of it: nothing may be made durable
// before a later collective has succeeded.
//
// The first four take the stream of whose device the payload is. A stream of the cpu device (and
// Stream{}) means host memory: the call blocks. On a stream of a GPU the collective is enqueued; it
// is over when the stream is, and what then fails shows in the next collective of host memory.
class Channel {
 public:
  using Stream = tiering::StreamContext;
  virtual ~Channel() = default;

  // whole = the ranks' shards in rank order. whole.size() == world_size * shard.size(). The shard
  // may be its own place in `whole`, and must not overlap it otherwise.
  virtual Status AllGather(const Stream& stream, std::span<const std::byte> shard,
                           std::span<std::byte> whole) = 0;
  // Sums the ranks' `whole` and keeps this rank's part of the sum; sizes as in AllGather, one dtype
  // on both sides. The shard may be its own place in `whole`.
  virtual Status ReduceScatter(const Stream& stream, std::span<const std::byte> whole,
                               std::span<std::byte> shard, DType dtype) = 0;
  // Each number becomes its sum over the ranks.
  virtual Status AllReduce(const Stream& stream, std::span<std::byte> numbers, DType dtype) = 0;
  // All get what `root` has.
  virtual Status Broadcast(const Stream& stream, std::span<std::byte> bytes, uint32_t root) = 0;

  // The same of host memory.
  Status AllGather(std::span<const std::byte> shard, std::span<std::byte> whole) {
    return AllGather(Stream{}, shard, whole);
  }
  Status ReduceScatter(std::span<const std::byte> whole, std::span<std::byte> shard, DType dtype) {
    return ReduceScatter(Stream{}, whole, shard, dtype);
  }
  Status AllReduce(std::span<std::byte> numbers, DType dtype) {
    return AllReduce(Stream{}, numbers, dtype);
  }
  Status Broadcast(std::span<std::byte> bytes, uint32_t root) {
    return Broadcast(Stream{}, bytes, root);
  }

  // Host memory: each of a few numbers becomes its sum, added up in fp64 in rank order.
  virtual Status AllReduceSum(std::span<double> numbers) = 0;
  // Returns once all ranks have called it.
  virtual Status Barrier() = 0;
};

// Of one kind of collective: payload that left this rank's memory for other ranks, and that came
// from them, by whichever path; and the part of it that went between nodes, as messages.
struct Traffic {
  uint64_t calls = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint64_t bytes_sent_between_nodes = 0;
  uint64_t bytes_received_between_nodes = 0;
};
using TrafficByCollective = std::array<Traffic, kNumCollectives>;
Traffic Sum(const TrafficByCollective& traffic);  // of all kinds

struct NcclFunctions;  // engine/comm/nccl/nccl_functions.h

inline constexpr uint64_t kGpuStagingBytes = uint64_t{64} << 20;

// What a rank's GPU is used with.
struct GpuOptions {
  int device = 0;  // CUDA's number in this process
  // Of its memory, beside the budget: what the other ranks add to a sum arrives there, piece by
  // piece. NCCL takes memory of its own, too: UseGpu() goes before the budget is allocated, which
  // then sees what is left.
  uint64_t staging_bytes = kGpuStagingBytes;
  // Null: the library of this machine. For tests: another one.
  const NcclFunctions* nccl = nullptr;
};

// Thread-safe but for ShareMemory() and UseGpu(). Channels live as long as it does.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual uint32_t rank() const = 0;
  virtual uint32_t world_size() const = 0;
  virtual uint32_t local_rank() const = 0;  // among the ranks of this node
  virtual uint32_t local_size() const = 0;
  virtual uint32_t node() const = 0;
  virtual uint32_t num_nodes() const = 0;
  virtual std::string description() const = 0;  // "mpi: 4 ranks on 2 nodes, ..."

  virtual Channel& channel(ChannelId id) = 0;

  // Lets the ranks of this node read payloads in `memory` where they are; payloads elsewhere are
  // copied through a staging buffer first. `fd` is what others map (tiering::Arena::fd,
  // Device::memory_fd); with -1 this rank shares nothing. Called by all ranks, from one thread,
  // while no other is in a collective.
  virtual Status ShareMemory(std::span<std::byte> memory, int fd) = 0;
  // Before shared memory is freed, by its rank alone, from one thread, while no other is in a
  // collective. The machine has it back when the other ranks' communicators end.
  virtual void UnshareMemory(std::span<std::byte> memory) = 0;

  // From here on payloads in the memory of this rank's GPU can be exchanged, on the comm lane.
  // Called by all ranks, from one thread, while no other is in a collective; blocks until all have.
  // kUnavailable when NCCL is missing or too old: says what to do. The only rank needs none.
  virtual Status UseGpu(const GpuOptions& options) = 0;
  // What collectives have of this rank's GPU since UseGpu(): staging, and what the GPU had less free
  // when NCCL had been tried out. It is taken then; what is allocated later must leave it.
  virtual uint64_t gpu_bytes() const = 0;

  // Shows those who wait for this rank how it gets on: `progress` is another number whenever it
  // has. Also answers ranks of other nodes who ask. To be called several times per deadline, from a
  // thread that waits for nobody; a rank for which nobody does counts as one that stands still.
  virtual void ShowProgress(uint64_t progress) = 0;
  struct Waits {
    uint32_t now = 0;    // threads of this rank that wait for other ranks
    uint64_t ended = 0;  // waits that came to a good end so far
  };
  virtual Waits waits() const = 0;

  // Makes all collectives of all ranks fail, those under way too, soon. Its message reaches the
  // others. The first failure stays.
  virtual void Abort(const Status& why) = 0;

  virtual TrafficByCollective traffic() const = 0;
};

struct CommunicatorOptions {
  // A rank that others wait for, and that shows no progress for so long and half as long again, is
  // given up. Not a limit on work that gets on. 0: never; ranks that end are still noticed.
  std::chrono::milliseconds deadline = std::chrono::minutes(5);
  // Ranks of a node that pretend to be on a node of their own: 0 for none. For tests: messages are
  // then used between them.
  uint32_t ranks_per_pretended_node = 0;
  // The file of the mpi plugin. Empty: beside the program, or where it is installed.
  std::string plugin = {};
};

std::unique_ptr<Communicator> MakeSelfCommunicator();

// The communicator for this process's place in the job: `self` for one rank; of more, `mpi` where
// MPI's runtime has started them, else `tcp` where MASTER_ADDR says where rank 0 is. Called by all
// ranks. kUnavailable when the plugin or the MPI library is missing or there is neither runtime nor
// address; says what to do. Over TCP it fails when a rank has not come until the deadline.
Result<std::unique_ptr<Communicator>> MakeCommunicator(const RankEnvironment& environment,
                                                       const CommunicatorOptions& options = {});

// What several ranks would talk through: "Open MPI v4.1.4". Fails as MakeCommunicator() does when
// it is missing. An empty path as in CommunicatorOptions.
// Whether the mpi plugin is where it is looked for; nothing is loaded.
bool HasTransport(const std::string& plugin_path = {});

Result<std::string> DescribeTransport(const std::string& plugin_path = {});

}  // namespace strata::engine
