#include "tests/fakes/fault_engine.h"

#include <algorithm>
#include <optional>

namespace strata::fakes {
namespace {

aio::File OpenScratch(const std::string& path, aio::FileAccess access) {
  auto file = aio::File::Open(path, {.access = access, .create = aio::FileCreate::kCreateOrOpen});
  STRATA_CHECK(file.ok());
  return std::move(file).value();
}

template <typename Fault>
std::optional<Fault> TakeFault(std::map<uint64_t, Fault>& faults, uint64_t index) {
  auto node = faults.extract(index);
  return node ? std::optional(node.mapped()) : std::nullopt;
}

}  // namespace

FaultEngine::FaultEngine(std::unique_ptr<aio::IoEngine> real, const std::string& directory)
    : empty_(OpenScratch(directory + "/fault-empty", aio::FileAccess::kReadOnly)),
      sink_(OpenScratch(directory + "/fault-sink", aio::FileAccess::kReadWrite)),
      real_(std::move(real)) {}

void FaultEngine::Spoil(ReadFault fault, uint64_t nth) {
  std::lock_guard lock(mutex_);
  read_faults_[num_reads_ + nth] = fault;
}

void FaultEngine::Spoil(WriteFault fault, uint64_t nth) {
  std::lock_guard lock(mutex_);
  write_faults_[num_writes_ + nth] = fault;
}

uint64_t FaultEngine::num_writes() const {
  std::lock_guard lock(mutex_);
  return num_writes_;
}

std::span<const std::byte> FaultEngine::FlippedCopy(std::span<const std::byte> bytes) {
  auto copy = aio::HugeMemory::Map(bytes.size());
  STRATA_CHECK(copy.ok());
  std::ranges::copy(bytes, copy->bytes().begin());
  copy->bytes()[0] ^= std::byte{1};
  copies_.push_back(std::move(copy).value());
  return copies_.back().bytes().first(bytes.size());
}

aio::IoTicket FaultEngine::StartReads(std::span<const aio::ReadRange> ranges,
                                      aio::RequestOptions options) {
  std::unique_lock lock(mutex_);
  bool spoilt = TakeFault(read_faults_, ++num_reads_).has_value();
  lock.unlock();
  std::vector<aio::ReadRange> redirected(ranges.begin(), ranges.end());
  if (spoilt) redirected.front().file = &empty_;
  return real_->StartReads(redirected, std::move(options));
}

aio::IoTicket FaultEngine::StartWrites(std::span<const aio::WriteRange> ranges,
                                       aio::RequestOptions options) {
  std::vector<aio::WriteRange> redirected(ranges.begin(), ranges.end());
  aio::WriteRange& first = redirected.front();
  std::unique_lock lock(mutex_);
  std::optional<WriteFault> fault = TakeFault(write_faults_, ++num_writes_);
  if (fault == WriteFault::kFlipped) first.from = FlippedCopy(first.from);
  lock.unlock();
  if (fault == WriteFault::kError) first.file = &empty_;
  if (fault == WriteFault::kLost) first.file = &sink_;
  return real_->StartWrites(redirected, std::move(options));
}

}  // namespace strata::fakes
