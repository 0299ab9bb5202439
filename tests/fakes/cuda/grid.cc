#include "tests/fakes/cuda/grid.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "aio/base/check.h"
#include "engine/kernels/cuda/dynamic_shared.h"
#include "tests/fakes/cuda/fiber.h"

thread_local constinit uint3 threadIdx = {}, blockIdx = {};
thread_local constinit dim3 blockDim, gridDim;

namespace strata::fakes::cuda {
namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kLanes = 32;
constexpr size_t kStackBytes = size_t{256} << 10;
constexpr size_t kGuardBytes = 64;
constexpr std::byte kPoison{0xff};  // NaN, as fp32 and in 16 bits

using engine::cuda::kDynamicSharedAlignment;

enum class State : uint8_t { kReady, kAtBlockBarrier, kAtWarpBarrier, kEnded };

// What the lanes of a warp show each other; two, used in turn, as one may be read still.
struct Exchanged {
  uint64_t lanes[2][kLanes] = {};
};

struct StartedCopy {
  void* to;
  const void* from;  // null: zeros
  size_t bytes;
};
using CopyGroup = std::vector<StartedCopy>;

struct Thread {
  State state = State::kReady;
  uint3 place = {};
  uint32_t num_block_barriers = 0;
  uint32_t num_warp_barriers = 0;
  uint32_t num_exchanges = 0;
  std::deque<CopyGroup> copies{1};  // the last one has not ended
  std::optional<Fiber> fiber;
};

// Addresses that stand for barriers to ThreadSanitizer; two, as a thread may be at the next one
// before another has left this one.
struct Barrier {
  char turn[2] = {};
};

class Block;
thread_local Block* running = nullptr;

class Stacks {
 public:
  Stacks() {
    void* memory = mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    STRATA_CHECK(memory != MAP_FAILED);
    memory_ = static_cast<std::byte*>(memory);
  }
  ~Stacks() { munmap(memory_, kMaxThreads * kStackBytes); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  std::byte* at(uint32_t index) { return memory_ + index * kStackBytes; }

 private:
  std::byte* memory_;
};

class Block {
 public:
  Block(const Grid& grid, const std::function<void()>& body, Stacks& stacks)
      : grid_(grid),
        body_(body),
        stacks_(stacks),
        num_threads_(grid.threads.x * grid.threads.y * grid.threads.z),
        threads_(num_threads_),
        warps_((num_threads_ + kLanes - 1) / kLanes),
        warp_barriers_(warps_.size()),
        order_(num_threads_),
        shared_(grid.shared_bytes + kGuardBytes + kDynamicSharedAlignment) {
    STRATA_CHECK(num_threads_ <= kMaxThreads);
    std::iota(order_.begin(), order_.end(), 0);
    if (grid.order == ThreadOrder::kDescending) std::reverse(order_.begin(), order_.end());
  }

  std::string Run(uint3 block, std::mt19937_64& random) {
    IgnoreBegin();
    std::fill(shared_.begin(), shared_.end(), kPoison);
    blockIdx = block;
    blockDim = grid_.threads;
    gridDim = grid_.blocks;
    for (uint32_t i = 0; i < num_threads_; ++i) Start(i);
    OrderBefore(&begin_);
    running = this;
    std::string wrong;
    do {
      uint64_t warps = ~uint64_t{0};  // that go on this time
      if (grid_.order == ThreadOrder::kShuffled) {
        std::shuffle(order_.begin(), order_.end(), random);
        warps = random() & random();
      }
      for (uint32_t index : order_)
        if (threads_[index].state == State::kReady && (warps >> (index / kLanes) & 1)) GoOn(index);
    } while (wrong.empty() && OpenBarriers(wrong));
    running = nullptr;
    // Threads that were left waiting have nothing on their stacks that must be undone.
    for (Thread& thread : threads_) {
      if (thread.state != State::kEnded) thread.fiber->Abandon();
      thread.fiber.reset();
    }
    if (!wrong.empty()) OrderAfterWhoWaits();
    OrderAfter(&end_);
    IgnoreEnd();
    if (wrong.empty() && !GuardIsWhole()) wrong = "it wrote past the end of its shared memory";
    return wrong;
  }

  std::byte* shared() {
    auto at = reinterpret_cast<uintptr_t>(shared_.data());
    return shared_.data() + (-at & (kDynamicSharedAlignment - 1));
  }
  uint32_t lane() const { return current_ % kLanes; }

  void WaitForBlock() {
    IgnoreBegin();
    Barrier& barrier = block_barrier_;
    Wait(State::kAtBlockBarrier, barrier.turn + threads_[current_].num_block_barriers++ % 2);
    IgnoreEnd();
  }
  void WaitForWarp() {
    IgnoreBegin();
    Barrier& barrier = warp_barriers_[current_ / kLanes];
    Wait(State::kAtWarpBarrier, barrier.turn + threads_[current_].num_warp_barriers++ % 2);
    IgnoreEnd();
  }
  const uint64_t* Exchange(const void* mine, size_t bytes) {
    IgnoreBegin();
    uint64_t* lanes = warps_[current_ / kLanes].lanes[threads_[current_].num_exchanges++ % 2];
    lanes[lane()] = 0;
    std::memcpy(lanes + lane(), mine, bytes);
    IgnoreEnd();
    WaitForWarp();
    return lanes;
  }

  void BeginCopy(const StartedCopy& copy) {
    IgnoreBegin();
    threads_[current_].copies.back().push_back(copy);
    IgnoreEnd();
  }
  void CloseCopyGroup() {
    IgnoreBegin();
    threads_[current_].copies.emplace_back();
    IgnoreEnd();
  }
  size_t num_copy_groups() const { return threads_[current_].copies.size() - 1; }
  CopyGroup TakeCopyGroup() {
    IgnoreBegin();
    CopyGroup first = std::move(threads_[current_].copies.front());
    threads_[current_].copies.pop_front();
    IgnoreEnd();
    return first;
  }

 private:
  void Start(uint32_t index) {
    Thread& thread = threads_[index];
    thread.state = State::kReady;
    thread.num_block_barriers = thread.num_warp_barriers = thread.num_exchanges = 0;
    thread.copies.assign(1, {});
    thread.place = {index % grid_.threads.x, index / grid_.threads.x % grid_.threads.y,
                    index / grid_.threads.x / grid_.threads.y};
    thread.fiber.emplace(stacks_.at(index), kStackBytes, &Block::Enter);
  }

  STRATA_NOT_SEEN_BY_TSAN static void Enter() {
    Block& block = *running;
    Thread& self = block.threads_[block.current_];
    self.fiber->Arrive();
    OrderAfter(&block.begin_);
    block.body_();
    IgnoreBegin();
    self.state = State::kEnded;
    OrderBefore(&block.end_);
    IgnoreEnd();
    block.scheduler_.Leave(*self.fiber);
  }

  void GoOn(uint32_t index) {
    current_ = index;
    threadIdx = threads_[index].place;
    threads_[index].fiber->GoOn(scheduler_);
  }

  void Wait(State where, void* barrier) {
    const uint32_t self = current_;
    threads_[self].state = where;
    OrderBefore(barrier);
    scheduler_.GoOn(*threads_[self].fiber);
    OrderAfter(barrier);
  }

  // Costly, as all that orders threads: only for those that have nothing else that ends them.
  void OrderAfterWhoWaits() {
    for (char& turn : block_barrier_.turn) OrderAfter(&turn);
    for (Barrier& barrier : warp_barriers_)
      for (char& turn : barrier.turn) OrderAfter(&turn);
  }

  // False when nobody can go on: all have ended, or `wrong` says why not.
  bool OpenBarriers(std::string& wrong) {
    bool opened = false;
    for (uint32_t first = 0; first < num_threads_; first += kLanes)
      opened |= OpenIfAll(first, std::min(first + kLanes, num_threads_), State::kAtWarpBarrier);
    if (opened) return true;
    const auto is = [&](State state) {
      return std::count_if(threads_.begin(), threads_.end(),
                           [state](const Thread& thread) { return thread.state == state; });
    };
    if (is(State::kReady) > 0) return true;  // of warps that were left behind
    const auto ended = is(State::kEnded);
    if (ended == num_threads_) return false;
    if (OpenIfAll(0, num_threads_, State::kAtBlockBarrier)) return true;
    wrong = fmt::format(
        "of {} threads of a block, {} wait for their block, {} for their warp, and "
        "{} have ended",
        num_threads_, is(State::kAtBlockBarrier), is(State::kAtWarpBarrier), ended);
    return false;
  }

  bool OpenIfAll(uint32_t first, uint32_t end, State where) {
    for (uint32_t i = first; i < end; ++i)
      if (threads_[i].state != where) return false;
    for (uint32_t i = first; i < end; ++i) threads_[i].state = State::kReady;
    return true;
  }

  bool GuardIsWhole() {
    const std::byte* guard = shared() + grid_.shared_bytes;
    return std::all_of(guard, guard + kGuardBytes, [](std::byte b) { return b == kPoison; });
  }

  const Grid& grid_;
  const std::function<void()>& body_;
  Stacks& stacks_;
  const uint32_t num_threads_;
  std::vector<Thread> threads_;
  std::vector<Exchanged> warps_;
  std::vector<Barrier> warp_barriers_;
  Barrier block_barrier_;
  char begin_ = 0;
  char end_ = 0;
  std::vector<uint32_t> order_;
  std::vector<std::byte> shared_;
  Fiber scheduler_;
  uint32_t current_ = 0;
};

}  // namespace

void BlockBarrier() { running->WaitForBlock(); }
void WarpBarrier() { running->WaitForWarp(); }
int LaneOfThread() { return static_cast<int>(running->lane()); }
const uint64_t* Exchange(const void* mine, size_t bytes) { return running->Exchange(mine, bytes); }
void* SharedMemory() { return running->shared(); }

void BeginCopy(void* to, const void* from, size_t bytes) { running->BeginCopy({to, from, bytes}); }
void CloseCopyGroup() { running->CloseCopyGroup(); }
void FinishCopyGroups(size_t left) {
  for (size_t over = running->num_copy_groups(); over > left; --over) {
    for (const StartedCopy& copy : running->TakeCopyGroup()) {
      if (copy.from == nullptr)
        std::memset(copy.to, 0, copy.bytes);
      else
        std::memcpy(copy.to, copy.from, copy.bytes);
    }
  }
}

std::string RunGrid(const Grid& grid, const std::function<void()>& thread) {
  static thread_local Stacks stacks;
  Block block(grid, thread, stacks);
  std::mt19937_64 random(grid.seed);
  std::vector<uint64_t> order(uint64_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z);
  std::iota(order.begin(), order.end(), 0);
  if (grid.order == ThreadOrder::kDescending) std::reverse(order.begin(), order.end());
  if (grid.order == ThreadOrder::kShuffled) std::shuffle(order.begin(), order.end(), random);
  for (uint64_t index : order) {
    const uint3 at = {static_cast<unsigned>(index % grid.blocks.x),
                      static_cast<unsigned>(index / grid.blocks.x % grid.blocks.y),
                      static_cast<unsigned>(index / grid.blocks.x / grid.blocks.y)};
    std::string wrong = block.Run(at, random);
    if (!wrong.empty())
      return fmt::format("block {},{},{}: {}", at.x, at.y, at.z, std::move(wrong));
  }
  return {};
}

}  // namespace strata::fakes::cuda
