#include "tests/fakes/nccl/fake_nccl.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/fakes/cuda/emulator.h"

namespace strata::fakes::nccl {
namespace {

using engine::NcclConfig;
using engine::NcclFunctions;
using engine::NcclResult;
using engine::NcclType;
using engine::NcclUniqueId;

constexpr int kVersion = 22809;
constexpr int kPollsInProgress = 3;  // of a call, before it is on its stream

// What a rank has for another, from when its stream comes to it until the other has taken it.
struct Message {
  const void* bytes = nullptr;
  size_t size = 0;
  bool is_taken = false;
};

// Ranks with one unique id.
struct Job {
  int num_ranks = 0;
  int num_joined = 0;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> mail;  // by sender, receiver
};

struct Exchange {
  enum class Way : uint8_t { kSend, kReceive };
  Way way = Way::kSend;
  int peer = 0;
  const void* from = nullptr;
  void* to = nullptr;
  size_t size = 0;
};

// Shared by a communicator and what it has on streams.
struct Rank {
  std::shared_ptr<Job> job;
  int rank = 0;
  bool is_aborted = false;
  bool is_finalized = false;
  NcclResult failure = NcclResult::kSuccess;
  int polls_left = 0;
  std::vector<std::function<void()>> to_enqueue;  // once it is no longer in progress
};

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<uint64_t, std::weak_ptr<Job>> jobs;
  uint64_t next_id = 1;
  std::map<int, NcclResult> later;
  std::map<std::string, NcclResult> next;
  bool is_stalled = false;
  bool corrupts = false;
  uint64_t bytes_per_rank = 0;
  Counters counters;
  std::map<std::pair<int, int>, uint64_t> bytes_sent;  // from, to
};

State& state() {
  static State instance;
  return instance;
}

thread_local int version_of_thread = 0;
thread_local std::map<std::string, NcclResult> next_of_thread;
thread_local int group_depth = 0;
thread_local std::vector<Exchange> group;
thread_local ncclComm* group_comm = nullptr;
thread_local cudaStream_t group_stream = nullptr;

NcclResult TakeFailure(const std::string& function) {
  const auto found = next_of_thread.find(function);
  if (found == next_of_thread.end()) return NcclResult::kSuccess;
  const NcclResult result = found->second;
  next_of_thread.erase(found);
  return result;
}

bool IsStuck(const Rank& rank) {
  return state().is_stalled || rank.failure != NcclResult::kSuccess;
}

// On a stream: all that one group, or one collective, sends and receives. False when aborted.
void Run(const std::shared_ptr<Rank>& rank, const std::vector<Exchange>& exchanges) {
  State& all = state();
  std::unique_lock lock(all.mutex);
  Job& job = *rank->job;
  std::vector<std::shared_ptr<Message>> sent;
  for (const Exchange& one : exchanges) {
    if (one.way != Exchange::Way::kSend) continue;
    sent.push_back(std::make_shared<Message>(Message{one.from, one.size}));
    job.mail[{rank->rank, one.peer}].push_back(sent.back());
    all.bytes_sent[{rank->rank, one.peer}] += one.size;
  }
  all.changed.notify_all();
  const auto wait = [&](const std::function<bool()>& done) {
    all.changed.wait(lock, [&] { return rank->is_aborted || (!IsStuck(*rank) && done()); });
    return !rank->is_aborted;
  };
  for (const Exchange& one : exchanges) {
    if (one.way != Exchange::Way::kReceive) continue;
    auto& mail = job.mail[{one.peer, rank->rank}];
    // Of another size: this one waits for bytes that never come.
    if (!wait([&] { return !mail.empty() && mail.front()->size == one.size; })) return;
    std::memcpy(one.to, mail.front()->bytes, one.size);
    if (all.corrupts && one.size > 0) *static_cast<unsigned char*>(one.to) ^= 0x40;
    mail.front()->is_taken = true;
    mail.pop_front();
    all.changed.notify_all();
  }
  for (const std::shared_ptr<Message>& message : sent)
    if (!wait([&] { return message->is_taken; })) return;
}

}  // namespace
}  // namespace strata::fakes::nccl

struct ncclComm {
  std::shared_ptr<strata::fakes::nccl::Rank> rank;
  void* memory = nullptr;  // of the rank's GPU
};

namespace strata::fakes::nccl {
namespace {

// Puts it on the stream when the communicator has been asked often enough.
NcclResult Enqueue(ncclComm* comm, cudaStream_t stream, std::function<void()> work) {
  State& all = state();
  std::lock_guard lock(all.mutex);
  Rank& rank = *comm->rank;
  if (rank.polls_left > 0) return NcclResult::kInvalidUsage;  // still in progress
  rank.polls_left = kPollsInProgress;
  rank.to_enqueue.push_back([stream, work = std::move(work)] {
    if (cuda::Enqueue(stream, work) != cudaSuccess) return;
  });
  ++all.counters.collectives;
  return NcclResult::kInProgress;
}

NcclResult GetVersion(int* version) {
  *version = version_of_thread == 0 ? kVersion : version_of_thread;
  return TakeFailure("get_version");
}

NcclResult GetUniqueId(NcclUniqueId* id) {
  std::lock_guard lock(state().mutex);
  *id = {};
  const uint64_t number = state().next_id++;
  std::memcpy(id->bytes, &number, sizeof(number));
  return TakeFailure("get_unique_id");
}

NcclResult InitRank(ncclComm** comm, int num_ranks, NcclUniqueId id, int rank, NcclConfig* config) {
  if (const NcclResult failure = TakeFailure("init_rank"); failure != NcclResult::kSuccess)
    return failure;
  if (config->size != 24 || config->magic != 0xcafebeef || config->blocking != 0)
    return NcclResult::kInvalidArgument;
  uint64_t number = 0;
  std::memcpy(&number, id.bytes, sizeof(number));
  if (number == 0 || rank < 0 || rank >= num_ranks) return NcclResult::kInvalidArgument;
  State& all = state();
  std::lock_guard lock(all.mutex);
  std::shared_ptr<Job> job = all.jobs[number].lock();
  if (job == nullptr) {
    job = std::make_shared<Job>();
    job->num_ranks = num_ranks;
    all.jobs[number] = job;
  }
  // "join" is none of its functions: the rank is there, but the others never hear of it.
  if (TakeFailure("join") == NcclResult::kSuccess) ++job->num_joined;
  void* memory = nullptr;
  if (all.bytes_per_rank > 0 && cudaMalloc(&memory, all.bytes_per_rank) != cudaSuccess)
    return NcclResult::kUnhandledCudaError;
  auto* made = new ncclComm{std::make_shared<Rank>(), memory};
  made->rank->job = job;
  made->rank->rank = rank;
  ++all.counters.communicators;
  *comm = made;
  return NcclResult::kInProgress;
}

NcclResult Finalize(ncclComm* comm) {
  std::lock_guard lock(state().mutex);
  comm->rank->is_finalized = true;
  comm->rank->polls_left = kPollsInProgress;
  return NcclResult::kInProgress;
}

void Free(ncclComm* comm) {
  State& all = state();
  comm->rank->is_aborted = true;
  comm->rank->to_enqueue.clear();  // what waits there holds the rank
  --all.counters.communicators;
  all.changed.notify_all();
  static_cast<void>(cudaFree(comm->memory));
  delete comm;
}

NcclResult Destroy(ncclComm* comm) {
  std::lock_guard lock(state().mutex);
  if (!comm->rank->is_finalized || comm->rank->polls_left > 0) return NcclResult::kInvalidUsage;
  ++state().counters.destroyed;
  Free(comm);
  return NcclResult::kSuccess;
}

NcclResult Abort(ncclComm* comm) {
  std::lock_guard lock(state().mutex);
  ++state().counters.aborts;
  Free(comm);
  return NcclResult::kSuccess;
}

NcclResult GetAsyncError(ncclComm* comm, NcclResult* error) {
  State& all = state();
  std::lock_guard lock(all.mutex);
  Rank& rank = *comm->rank;
  const auto later = all.later.find(rank.rank);
  if (later != all.later.end() && rank.failure == NcclResult::kSuccess) {
    rank.failure = later->second;
    all.changed.notify_all();
  }
  *error = rank.failure;
  if (rank.failure != NcclResult::kSuccess) return NcclResult::kSuccess;
  if (rank.job->num_joined < rank.job->num_ranks) {
    *error = NcclResult::kInProgress;
  } else if (rank.polls_left > 0 && --rank.polls_left > 0) {
    *error = NcclResult::kInProgress;
  } else {
    for (const auto& enqueue : std::exchange(rank.to_enqueue, {})) enqueue();
  }
  return NcclResult::kSuccess;
}

const char* GetErrorString(NcclResult result) {
  switch (result) {
    case NcclResult::kSystemError:
      return "unhandled system error";
    case NcclResult::kRemoteError:
      return "remote process exited or there was a network error";
    case NcclResult::kInvalidUsage:
      return "invalid usage";
    default:
      return "internal error";
  }
}
const char* GetLastError(ncclComm*) { return "the fake's last words"; }

NcclResult GroupStart() {
  ++group_depth;
  return TakeFailure("group_start");
}

NcclResult GroupEnd() {
  if (--group_depth > 0) return NcclResult::kSuccess;
  std::vector<Exchange> exchanges = std::exchange(group, {});
  if (const NcclResult failure = TakeFailure("group_end"); failure != NcclResult::kSuccess)
    return failure;
  if (exchanges.empty()) return NcclResult::kSuccess;
  return Enqueue(
      group_comm, group_stream,
      [rank = group_comm->rank, exchanges = std::move(exchanges)] { Run(rank, exchanges); });
}

NcclResult AddToGroup(const Exchange& exchange, ncclComm* comm, cudaStream_t stream) {
  if (group_depth == 0) return NcclResult::kInvalidUsage;  // one alone would hang
  group.push_back(exchange);
  group_comm = comm;
  group_stream = stream;
  return NcclResult::kSuccess;
}

NcclResult Send(const void* from, size_t count, NcclType, int peer, ncclComm* comm,
                cudaStream_t stream) {
  return AddToGroup({.way = Exchange::Way::kSend, .peer = peer, .from = from, .size = count}, comm,
                    stream);
}

NcclResult Receive(void* to, size_t count, NcclType, int peer, ncclComm* comm,
                   cudaStream_t stream) {
  return AddToGroup({.way = Exchange::Way::kReceive, .peer = peer, .to = to, .size = count}, comm,
                    stream);
}

NcclResult AllGather(const void* from, void* to, size_t count, NcclType, ncclComm* comm,
                     cudaStream_t stream) {
  if (const NcclResult failure = TakeFailure("all_gather"); failure != NcclResult::kSuccess)
    return failure;
  const std::shared_ptr<Rank> rank = comm->rank;
  auto* whole = static_cast<std::byte*>(to);
  std::vector<Exchange> exchanges;
  for (int peer = 0; peer < rank->job->num_ranks; ++peer) {
    if (peer == rank->rank) continue;
    exchanges.push_back({.way = Exchange::Way::kSend, .peer = peer, .from = from, .size = count});
    exchanges.push_back({.way = Exchange::Way::kReceive,
                         .peer = peer,
                         .to = whole + static_cast<size_t>(peer) * count,
                         .size = count});
  }
  return Enqueue(comm, stream, [=, exchanges = std::move(exchanges)] {
    std::memmove(whole + static_cast<size_t>(rank->rank) * count, from, count);
    Run(rank, exchanges);
  });
}

NcclResult Broadcast(const void* from, void* to, size_t count, NcclType, int root, ncclComm* comm,
                     cudaStream_t stream) {
  const std::shared_ptr<Rank> rank = comm->rank;
  std::vector<Exchange> exchanges;
  for (int peer = 0; peer < rank->job->num_ranks; ++peer) {
    if (peer == rank->rank) continue;
    if (rank->rank == root)
      exchanges.push_back({.way = Exchange::Way::kSend, .peer = peer, .from = from, .size = count});
    if (peer == root && rank->rank != root)
      exchanges.push_back({.way = Exchange::Way::kReceive, .peer = root, .to = to, .size = count});
  }
  return Enqueue(comm, stream, [=, exchanges = std::move(exchanges)] { Run(rank, exchanges); });
}

constexpr NcclFunctions kFunctions = {.get_version = GetVersion,
                                      .get_unique_id = GetUniqueId,
                                      .init_rank = InitRank,
                                      .finalize = Finalize,
                                      .destroy = Destroy,
                                      .abort = Abort,
                                      .get_async_error = GetAsyncError,
                                      .get_error_string = GetErrorString,
                                      .get_last_error = GetLastError,
                                      .group_start = GroupStart,
                                      .group_end = GroupEnd,
                                      .all_gather = AllGather,
                                      .broadcast = Broadcast,
                                      .send = Send,
                                      .receive = Receive};

}  // namespace

const NcclFunctions& Functions() { return kFunctions; }

void Reset() {
  State& all = state();
  std::lock_guard lock(all.mutex);
  all.later.clear();
  all.is_stalled = false;
  all.corrupts = false;
  all.bytes_per_rank = 0;
  all.jobs.clear();
  all.counters = {.communicators = all.counters.communicators};
  all.bytes_sent.clear();
}

void TakeMemory(uint64_t bytes_per_rank) {
  std::lock_guard lock(state().mutex);
  state().bytes_per_rank = bytes_per_rank;
}

void SetVersionOfThread(int version) { version_of_thread = version; }

void FailNext(const std::string& function, NcclResult result) { next_of_thread[function] = result; }

void FailLater(int rank, NcclResult result) {
  std::lock_guard lock(state().mutex);
  state().later[rank] = result;
}

void Stall() {
  std::lock_guard lock(state().mutex);
  state().is_stalled = true;
}

void Corrupt() {
  std::lock_guard lock(state().mutex);
  state().corrupts = true;
}

Counters counters() {
  std::lock_guard lock(state().mutex);
  return state().counters;
}

uint64_t BytesSent(int from, int to) {
  std::lock_guard lock(state().mutex);
  return state().bytes_sent[{from, to}];
}

}  // namespace strata::fakes::nccl
