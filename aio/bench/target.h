// What a benchmark reads and writes: directories, files and drives as one striped range of bytes,
// written once before anybody reads it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/base/units.h"
#include "aio/bench/stop.h"
#include "aio/striped_file.h"

namespace strata::aio {

// What may happen to a file or drive that was there before.
enum class ExistingData { kKeep, kDestroy };
enum class StripeShares { kMeasured, kEqual };

struct TargetOptions {
  // Directories, in which files are made that have no name and are gone when the process is,
  // whatever ends it; regular files; block devices.
  std::vector<std::string> paths = {"."};
  uint64_t size_bytes = 1_GiB;  // of all paths together
  ExistingData existing = ExistingData::kKeep;
  StripeShares shares = StripeShares::kMeasured;  // each path read alone for a moment
  uint64_t stripe_bytes = 1_MiB;                  // a multiple of 4096
  uint64_t seed = 0;                              // of the data; 0: another one every time
};

enum class TargetKind { kScratch, kFile, kBlockDevice };
std::string_view TargetKindName(TargetKind kind);  // "scratch file", "file", "block device"

struct TargetPath {
  std::string path;  // as it was given
  TargetKind kind = TargetKind::kScratch;
  bool direct = true;           // past the page cache
  bool writable = true;         // and its content is known, so that it can be verified
  uint64_t size_bytes = 0;      // that are used
  double share = 1;             // of the stripes
  double read_bytes_per_s = 0;  // alone, where shares were measured
};

// Thread-compatible. Keeps track of what was written to each sector of 4 KiB.
class BenchTarget {
 public:
  // Takes the time to write everything once. kResourceExhausted, before anything is written, when
  // there is no room: the message says how much there is. kCancelled when stopped.
  static Result<std::unique_ptr<BenchTarget>> Create(const TargetOptions& options,
                                                     const BytesProgress& progress = {},
                                                     const StopCheck& stop = {});
  ~BenchTarget();
  BenchTarget(const BenchTarget&) = delete;
  BenchTarget& operator=(const BenchTarget&) = delete;

  uint64_t size_bytes() const;  // a multiple of 4096; what was asked for, or what there is
  const StripedFile& files() const;
  std::span<const TargetPath> paths() const;
  // What a person should know of the target: "/tmp has no direct I/O: ...".
  const std::vector<std::string>& notes() const;

  // kFailedPrecondition unless every path may be written to, naming the first that may not. Where
  // it may, the content is known, too.
  Status CheckWritable() const;

  // fdatasync of all files, then what the page cache holds of those without direct I/O is dropped,
  // as far as that can be.
  Status SyncAndDropCaches();

  // Makes `bytes` what is to be written to the range next. Whole sectors.
  void FillForWrite(uint64_t offset_bytes, std::span<std::byte> bytes);
  // The same at a hundredth of the cost, in memory that was filled before: data of old payloads
  // under new tags. See StampPattern.
  void StampForWrite(uint64_t offset_bytes, std::span<std::byte> bytes);
  // kDataLoss when `bytes` is not what was written to the range last; the message names the file,
  // the place and what is there instead.
  Status Check(uint64_t offset_bytes, std::span<const std::byte> bytes) const;
  // Reads and checks everything.
  Status CheckAll(const BytesProgress& progress = {}, const StopCheck& stop = {}) const;

 private:
  struct State;
  explicit BenchTarget(std::unique_ptr<State> state);
  Status WriteAll(const BytesProgress& progress, const StopCheck& stop);
  std::unique_ptr<State> state_;
};

}  // namespace strata::aio
