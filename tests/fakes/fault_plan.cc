#include "tests/fakes/fault_plan.h"

#include <algorithm>

#include "aio/base/check.h"
#include "aio/base/units.h"

namespace strata::fakes {
namespace {

bool IsForWritesOnly(const Fault& fault) {
  return fault.kind == FaultKind::kTorn || fault.kind == FaultKind::kLost;
}

// FNV-1a, of the name without its folders: tests run in a new folder each time.
uint64_t HashOfName(const std::string& path) {
  uint64_t hash = 14695981039346656037u;
  for (char c : path.substr(path.rfind('/') + 1))
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

bool Overlap(const FaultPlace& place, const aio::IoTransfer& transfer) {
  return place.direction == transfer.direction && place.path == transfer.file->path() &&
         place.offset_bytes < transfer.offset_bytes + transfer.length_bytes &&
         transfer.offset_bytes < place.offset_bytes + place.length_bytes;
}

FaultPlace PlaceOf(const aio::IoTransfer& transfer) {
  return {transfer.direction, transfer.file->path(), transfer.offset_bytes, transfer.length_bytes};
}

bool CanMeet(const Fault& fault, const aio::IoTransfer& transfer) {
  return fault.kind != FaultKind::kShort || transfer.length_bytes > SectorBytes(transfer);
}

}  // namespace

uint64_t MixBits(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

aio::IoTransfer Shortened(const aio::IoTransfer& transfer, uint64_t random) {
  uint64_t sector_bytes = SectorBytes(transfer);
  uint64_t num_sectors = CeilDiv(transfer.length_bytes, sector_bytes);
  aio::IoTransfer part = transfer;
  part.length_bytes = (1 + random % (num_sectors - 1)) * sector_bytes;
  return part;
}

uint64_t SectorBytes(const aio::IoTransfer& transfer) {
  return transfer.durable ? 512 : std::max<uint64_t>(512, transfer.file->offset_alignment_bytes());
}

void FaultPlan::SetChances(std::vector<FaultChance> chances) {
  for (const FaultChance& chance : chances)
    STRATA_CHECK(chance.direction == aio::IoDirection::kWrite || !IsForWritesOnly(chance.fault));
  std::lock_guard lock(mutex_);
  chances_ = std::move(chances);
}

void FaultPlan::SpoilRequest(aio::IoDirection direction, const Fault& fault, uint64_t nth) {
  STRATA_CHECK(direction == aio::IoDirection::kWrite || !IsForWritesOnly(fault));
  std::lock_guard lock(mutex_);
  by_request_[{direction, num_requests_[direction] + nth}] = fault;
}

void FaultPlan::SpoilPlace(const FaultPlace& place, const Fault& fault, uint64_t times) {
  STRATA_CHECK(place.direction == aio::IoDirection::kWrite || !IsForWritesOnly(fault));
  std::lock_guard lock(mutex_);
  by_place_.push_back({place, fault, times});
}

void FaultPlan::OnRequest(const std::vector<FaultPlace>& ranges) {
  std::lock_guard lock(mutex_);
  for (const FaultPlace& range : ranges) NoteVisit(range);
  aio::IoDirection direction = ranges.front().direction;
  auto node = by_request_.extract(std::pair(direction, ++num_requests_[direction]));
  if (!node) return;
  FaultPlace first_byte = ranges.front();
  first_byte.length_bytes = 1;
  by_place_.push_back({std::move(first_byte), node.mapped(), 1});
}

void FaultPlan::NoteVisit(const FaultPlace& range) {
  Visits& visits = visits_[{range.direction, range.path}];
  Visit now = {.offset_bytes = range.offset_bytes,
               .end_bytes = range.offset_bytes + range.length_bytes,
               .number = 1,
               .tries = {}};
  for (const Visit& before : visits) {
    if (before.offset_bytes < now.end_bytes && now.offset_bytes < before.end_bytes)
      now.number = std::max(now.number, before.number + 1);
  }
  std::erase_if(visits, [&](const Visit& before) {
    return now.offset_bytes <= before.offset_bytes && before.end_bytes <= now.end_bytes;
  });
  visits.push_back(std::move(now));
}

std::optional<FaultPlan::Decision> FaultPlan::Decide(const aio::IoTransfer& transfer) {
  std::lock_guard lock(mutex_);
  uint64_t random = RandomOf(transfer);
  std::optional<Fault> fault = ScheduledFor(transfer);
  if (!fault) fault = ChosenFor(transfer, random);
  if (!fault) return std::nullopt;
  injected_.push_back({.fault = *fault,
                       .direction = transfer.direction,
                       .path = transfer.file->path(),
                       .offset_bytes = transfer.offset_bytes,
                       .length_bytes = transfer.length_bytes});
  return Decision{.fault = *fault, .random = MixBits(random)};
}

uint64_t FaultPlan::RandomOf(const aio::IoTransfer& transfer) {
  Visits& visits = visits_[{transfer.direction, transfer.file->path()}];
  auto is_here = [&](const Visit& candidate) {
    return candidate.offset_bytes <= transfer.offset_bytes &&
           transfer.offset_bytes < candidate.end_bytes;
  };
  auto visit = std::find_if(visits.rbegin(), visits.rend(), is_here);
  if (visit == visits.rend()) {  // nobody tells of requests: each transfer counts as one
    NoteVisit(PlaceOf(transfer));
    visit = visits.rbegin();
  }
  uint64_t random = MixBits(seed_ ^ HashOfName(transfer.file->path()));
  random = MixBits(random ^ transfer.offset_bytes);
  random = MixBits(random ^ static_cast<uint64_t>(transfer.direction));
  random = MixBits(random ^ visit->number);
  return MixBits(random ^ ++visit->tries[transfer.offset_bytes]);
}

std::optional<Fault> FaultPlan::ScheduledFor(const aio::IoTransfer& transfer) {
  auto due = std::ranges::find_if(by_place_, [&](const Spoilt& spoilt) {
    return Overlap(spoilt.place, transfer) && CanMeet(spoilt.fault, transfer);
  });
  if (due == by_place_.end()) return std::nullopt;
  Fault fault = due->fault;
  if (--due->times_left == 0) by_place_.erase(due);
  return fault;
}

std::optional<Fault> FaultPlan::ChosenFor(const aio::IoTransfer& transfer, uint64_t random) const {
  double drawn = static_cast<double>(random >> 11) * 0x1p-53;
  for (const FaultChance& chance : chances_) {
    if (chance.direction != transfer.direction) continue;
    if (drawn < chance.probability && CanMeet(chance.fault, transfer)) return chance.fault;
    drawn -= chance.probability;
  }
  return std::nullopt;
}

std::vector<InjectedFault> FaultPlan::injected() const {
  std::lock_guard lock(mutex_);
  return injected_;
}

std::vector<InjectedFault> FaultPlan::injected_in(const FaultPlace& place, size_t since) const {
  std::lock_guard lock(mutex_);
  std::vector<InjectedFault> found;
  for (size_t i = since; i < injected_.size(); ++i) {
    const InjectedFault& fault = injected_[i];
    bool inside = fault.direction == place.direction && fault.path == place.path &&
                  fault.offset_bytes < place.offset_bytes + place.length_bytes &&
                  place.offset_bytes < fault.offset_bytes + fault.length_bytes;
    if (inside) found.push_back(fault);
  }
  return found;
}

size_t FaultPlan::num_injected() const {
  std::lock_guard lock(mutex_);
  return injected_.size();
}

uint64_t FaultPlan::num_requests(aio::IoDirection direction) const {
  std::lock_guard lock(mutex_);
  auto found = num_requests_.find(direction);
  return found == num_requests_.end() ? 0 : found->second;
}

}  // namespace strata::fakes
