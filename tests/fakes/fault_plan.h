// What goes wrong, and where: decided by place and count, never by time, so that the same seed and
// the same requests meet the same faults.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "aio/internal/io_request.h"

namespace strata::fakes {

enum class FaultKind {
  kError,      // fails with error_number; nothing is moved
  kShort,      // stops somewhere inside, at a multiple of the file's alignment
  kDelayed,    // is answered after transfers that came later
  kReordered,  // reaches the file after transfers that came later
  kHung,       // is not answered until somebody lets it go
  kTorn,       // a write of which some sectors (all but a prefix, or any) never reach the file
  kLost,       // a write of which nothing does
  kFlipped,    // one bit of its first byte arrives the other way round
};

struct Fault {
  FaultKind kind = FaultKind::kError;
  int error_number = EIO;
  bool operator==(const Fault&) const = default;
};

// Of all transfers in `direction`, this part meets `fault`.
struct FaultChance {
  aio::IoDirection direction = aio::IoDirection::kRead;
  Fault fault = {};
  double probability = 0;
};

struct InjectedFault {
  Fault fault = {};
  aio::IoDirection direction = aio::IoDirection::kRead;
  std::string path = {};
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;

  // Reported as written, but the file does not hold it.
  bool is_lie() const { return fault.kind >= FaultKind::kTorn; }
  bool operator==(const InjectedFault&) const = default;
};

// A run of bytes of a file that is transferred one way.
struct FaultPlace {
  aio::IoDirection direction = aio::IoDirection::kRead;
  std::string path = {};
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

// Thread-safe.
class FaultPlan {
 public:
  explicit FaultPlan(uint64_t seed) : seed_(seed) {}

  // From now on; of several that apply one is met.
  void SetChances(std::vector<FaultChance> chances);
  // The transfer that holds the first byte of the `nth` request from now, 1 being the next.
  void SpoilRequest(aio::IoDirection direction, const Fault& fault, uint64_t nth);
  // The next `times` transfers that touch `place`.
  void SpoilPlace(const FaultPlace& place, const Fault& fault, uint64_t times);

  // To be told of each request's ranges, request by request in their order; or of none.
  void OnRequest(const std::vector<FaultPlace>& ranges);

  struct Decision {
    Fault fault = {};
    uint64_t random = 0;  // for what else is to be chosen
  };
  // The fate of a transfer, which is taken down as injected; nothing when it is to be as it is.
  std::optional<Decision> Decide(const aio::IoTransfer& transfer);

  std::vector<InjectedFault> injected() const;
  // Those that touch the place, without the first `since` of all.
  std::vector<InjectedFault> injected_in(const FaultPlace& place, size_t since = 0) const;
  size_t num_injected() const;

  uint64_t num_requests(aio::IoDirection direction) const;

 private:
  struct Spoilt {
    FaultPlace place;
    Fault fault;
    uint64_t times_left;
  };
  // A range of a request. What happens to its transfers depends on how many requests have been at
  // this place, and on how often each of its offsets was tried: not on what happens elsewhere, and
  // not on which transfers of a failed request were left out.
  struct Visit {
    uint64_t offset_bytes;
    uint64_t end_bytes;
    uint64_t number;
    std::map<uint64_t, uint64_t> tries;  // by offset
  };
  using Visits = std::vector<Visit>;

  void NoteVisit(const FaultPlace& range);
  uint64_t RandomOf(const aio::IoTransfer& transfer);
  std::optional<Fault> ScheduledFor(const aio::IoTransfer& transfer);
  std::optional<Fault> ChosenFor(const aio::IoTransfer& transfer, uint64_t random) const;

  const uint64_t seed_;
  mutable std::mutex mutex_;
  std::vector<FaultChance> chances_;
  std::map<std::pair<aio::IoDirection, uint64_t>, Fault> by_request_;
  std::vector<Spoilt> by_place_;
  std::map<aio::IoDirection, uint64_t> num_requests_;
  std::map<std::pair<aio::IoDirection, std::string>, Visits> visits_;  // by path, oldest first
  std::vector<InjectedFault> injected_;
};

// The next of a row of numbers that look random.
uint64_t MixBits(uint64_t value);

// The size of the parts in which a drive would take this write.
uint64_t SectorBytes(const aio::IoTransfer& transfer);

// A first part of a transfer that is longer than one of those.
aio::IoTransfer Shortened(const aio::IoTransfer& transfer, uint64_t random);

}  // namespace strata::fakes
