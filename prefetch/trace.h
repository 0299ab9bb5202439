// What a training step does, before anyone decides where bytes live or when they move.
//
// The engine writes a Trace: its operations in the order in which one thread would run them, and
// for each the blocks it reads and writes. Nothing here knows what a layer or an optimizer is.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "tiering/tier.h"

namespace strata::prefetch {

using tiering::Tier;

enum class BlockId : uint32_t {};  // index into Trace::blocks
enum class OpId : uint32_t {};     // index into Trace::ops
constexpr size_t Index(BlockId id) { return static_cast<size_t>(id); }
constexpr size_t Index(OpId id) { return static_cast<size_t>(id); }

// Something that does one kind of work in issue order.
enum class Lane : uint8_t { kNvmeRead, kNvmeWrite, kH2d, kD2h, kCompute, kComm, kCpu };
inline constexpr size_t kNumLanes = 7;
constexpr std::string_view LaneName(Lane lane) {
  constexpr std::array<std::string_view, kNumLanes> kNames = {
      "nvme-read", "nvme-write", "h2d", "d2h", "compute", "comm", "cpu"};
  return kNames[static_cast<size_t>(lane)];
}
// A serial lane finishes one node before it starts the next, so its order is a happens-before. The
// two nvme lanes only start in order.
constexpr bool IsSerial(Lane lane) { return lane != Lane::kNvmeRead && lane != Lane::kNvmeWrite; }

enum class Lifetime : uint8_t {
  kPersistent,  // its value at the end of a step is its value at the start of the next
  kStep,        // made and last used inside a step; the first access writes it
};

struct TraceBlock {
  std::string name = {};     // unique: "layers.3.mlp/w"
  std::string purpose = {};  // what a memory table groups by: "weights", "optimizer"...
  uint64_t size_bytes = 0;   // > 0; slots are this, rounded up to tiering::kSlotAlignmentBytes
  Lifetime lifetime = Lifetime::kStep;
  // Persistent blocks: the tier where the value is kept between steps. A block at home in device or
  // host has a fixed slot there for the whole run; one at home on nvme is durable there by the end
  // of each step in which it was written. Step blocks: ignored.
  Tier home = Tier::kNvme;
};

enum class AccessMode : uint8_t {
  kRead,
  kWrite,  // overwrites all of it; the old value is not needed
  kReadWrite,
};

struct Access {
  BlockId block;
  AccessMode mode;
};

struct TraceOp {
  std::string name = {};       // "backward layers.3.mlp micro=0"
  std::string kind = {};       // what its rate is measured by: "mlp.backward", "adam"
  Lane lane = Lane::kCompute;  // kCompute and kComm work on device memory, kCpu on host memory
  std::vector<Access> accesses = {};  // each block at most once
  uint64_t workspace_bytes = 0;       // scratch in the lane's tier; content is lost after the op
  double work = 0;  // flops (compute) or bytes touched (cpu, comm): rate * seconds
};

// The tier in which a lane's operands must be.
constexpr Tier TierOf(Lane lane) { return lane == Lane::kCpu ? Tier::kHost : Tier::kDevice; }

struct Trace {
  std::vector<TraceBlock> blocks;
  std::vector<TraceOp> ops;

  // kInvalidArgument naming the op or block: lanes other than compute, comm, cpu; an id out of
  // range; a block twice in one op; a step block read before it is written; an empty block; two
  // blocks of one name.
  Status Validate() const;
};

}  // namespace strata::prefetch
