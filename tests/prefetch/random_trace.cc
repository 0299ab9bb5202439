#include "tests/prefetch/random_trace.h"

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::prefetch {
namespace {

constexpr uint64_t kPage = 4096;

class TraceMaker {
 public:
  explicit TraceMaker(uint32_t seed) : random_(seed) {}

  Trace Make(uint32_t num_ops) {
    const uint32_t num_blocks = num_ops / 2 + 2;
    for (uint32_t i = 0; i < num_blocks; ++i) AddBlock();
    for (uint32_t i = 0; i < num_ops; ++i) AddOp();
    return std::move(trace_);
  }

 private:
  // std's distributions differ between libraries; this does not.
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

  void AddBlock() {
    constexpr std::array<Tier, 5> kHomes = {Tier::kNvme, Tier::kNvme, Tier::kNvme, Tier::kHost,
                                            Tier::kDevice};
    TraceBlock block;
    block.name = "block" + std::to_string(trace_.blocks.size());
    block.purpose = "test";
    block.size_bytes = 1 + Below(4 * kPage);
    block.lifetime = Below(3) == 0 ? Lifetime::kStep : Lifetime::kPersistent;
    block.home = kHomes[Below(kHomes.size())];
    written_.push_back(block.lifetime == Lifetime::kPersistent);
    trace_.blocks.push_back(std::move(block));
  }

  void AddOp() {
    constexpr std::array<Lane, 3> kLanes = {Lane::kCompute, Lane::kComm, Lane::kCpu};
    TraceOp op;
    op.name = "op" + std::to_string(trace_.ops.size());
    op.kind = "test";
    op.lane = kLanes[Below(kLanes.size())];
    op.workspace_bytes = Below(2) == 0 ? 0 : 1 + Below(2 * kPage);
    op.work = Below(100'000);
    const uint32_t num_accesses = 1 + Below(4);
    for (uint32_t i = 0; i < num_accesses; ++i) AddAccess(op);
    trace_.ops.push_back(std::move(op));
  }

  void AddAccess(TraceOp& op) {
    const BlockId block{Below(static_cast<uint32_t>(trace_.blocks.size()))};
    const bool taken = std::any_of(op.accesses.begin(), op.accesses.end(),
                                   [&](const Access& access) { return access.block == block; });
    if (taken) return;
    const AccessMode mode = written_[Index(block)] ? AccessMode(Below(3)) : AccessMode::kWrite;
    written_[Index(block)] = true;
    op.accesses.push_back({block, mode});
  }

  std::mt19937 random_;
  std::vector<bool> written_;  // by block: has a value that can be read
  Trace trace_;
};

}  // namespace

Trace RandomTrace(uint32_t seed, uint32_t num_ops) { return TraceMaker(seed).Make(num_ops); }

StepPlan CompileTightly(const Trace& trace, uint32_t prefetch_ops, double slack) {
  for (uint64_t bytes = 8 * kPage;; bytes = RoundUp(bytes + bytes / 8, kPage)) {
    const Budgets tight{.device_bytes = bytes, .host_bytes = bytes};
    if (!Compile(trace, {.budgets = tight, .prefetch_ops = prefetch_ops}).ok()) {
      STRATA_CHECK(bytes < 1_GiB);
      continue;
    }
    const uint64_t wide = RoundUp(static_cast<uint64_t>(static_cast<double>(bytes) * slack), kPage);
    auto plan = Compile(trace, {.budgets = {.device_bytes = wide, .host_bytes = wide},
                                .prefetch_ops = prefetch_ops});
    return std::move(plan).value();
  }
}

}  // namespace strata::prefetch
