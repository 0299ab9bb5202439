#include "engine/comm/internal/node_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <utility>

#include "aio/base/units.h"

namespace strata::engine {
namespace {

constexpr uint64_t kBoardBytes = 4_KiB;
static_assert(sizeof(RankBoard) <= kBoardBytes);

uint64_t StagingOffset(ChannelId channel) {
  uint64_t offset = kBoardBytes;
  for (size_t before = 0; before < static_cast<size_t>(channel); ++before)
    offset += NodeMemory::kNumSlots * NodeMemory::SlotBytes(static_cast<ChannelId>(before));
  return offset;
}

uint64_t SlotOffset(ChannelId channel, uint64_t row) {
  return StagingOffset(channel) + row % NodeMemory::kNumSlots * NodeMemory::SlotBytes(channel);
}

// A descriptor of the same file. Its number means nothing here, so it is reached through /proc.
Result<int> OpenOf(const MemoryName& name, PeerAccess access) {
  const std::string path = fmt::format("/proc/{}/fd/{}", name.process, name.fd);
  const int flags = access == PeerAccess::kReadOnly ? O_RDONLY : O_RDWR;
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd >= 0) return fd;
  return ErrnoStatus(errno, fmt::format("open the memory of another rank, {}: the ranks of a "
                                        "machine need one user and one PID namespace",
                                        path));
}

Result<std::span<std::byte>> MapFile(int fd, const MemoryName& name, PeerAccess access) {
  struct stat found {};
  const bool is_it = fstat(fd, &found) == 0 && S_ISREG(found.st_mode) &&
                     static_cast<uint64_t>(found.st_size) >= name.size_bytes;
  if (!is_it) {
    return Internal(
        fmt::format("/proc/{}/fd/{} is not the memory of another rank: the ranks of a "
                    "machine need one PID namespace",
                    name.process, name.fd));
  }
  const int protection = access == PeerAccess::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  void* mapping = mmap(nullptr, name.size_bytes, protection, MAP_SHARED, fd, 0);
  if (mapping == MAP_FAILED) return ErrnoStatus(errno, "map the memory of another rank");
  return std::span(static_cast<std::byte*>(mapping), name.size_bytes);
}

}  // namespace

Result<PeerMemory> PeerMemory::Map(const MemoryName& name, PeerAccess access) {
  if (name.fd < 0 || name.size_bytes == 0) return PeerMemory();
  if (name.process == getpid())
    return PeerMemory({reinterpret_cast<std::byte*>(name.address), name.size_bytes}, false);
  STRATA_ASSIGN_OR_RETURN(const int fd, OpenOf(name, access));
  Result<std::span<std::byte>> bytes = MapFile(fd, name, access);
  STRATA_CHECK(close(fd) == 0);
  if (!bytes.ok()) return bytes.status();
  return PeerMemory(*bytes, true);
}

PeerMemory::PeerMemory(PeerMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), is_mapped_(std::exchange(other.is_mapped_, false)) {}

PeerMemory& PeerMemory::operator=(PeerMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);  // other unmaps ours
  std::swap(is_mapped_, other.is_mapped_);
  return *this;
}

PeerMemory::~PeerMemory() {
  if (is_mapped_) STRATA_CHECK(munmap(bytes_.data(), bytes_.size()) == 0);
}

MemoryName NameOf(std::span<std::byte> memory, int fd, uint64_t nonce) {
  return {.process = getpid(),
          .fd = fd,
          .size_bytes = memory.size(),
          .address = reinterpret_cast<uintptr_t>(memory.data()),
          .nonce = nonce};
}

// The lane that moves tensors has large rows, so that waiting for one costs little beside moving
// it.
uint64_t NodeMemory::SlotBytes(ChannelId channel) {
  return channel == ChannelId::kCommLane ? 4_MiB : 1_MiB;
}

Result<NodeMemory> NodeMemory::Create(uint64_t nonce) {
  const uint64_t size_bytes = StagingOffset(static_cast<ChannelId>(kNumChannels));
  STRATA_ASSIGN_OR_RETURN(aio::HugeMemory own,
                          aio::HugeMemory::Map(size_bytes, aio::Sharing::kShared));
  auto* board = new (own.bytes().data()) RankBoard;
  board->nonce = nonce;
  return NodeMemory(std::move(own));
}

MemoryName NodeMemory::name() const {
  const auto* board = reinterpret_cast<const RankBoard*>(own_memory_.bytes().data());
  return NameOf(own_memory_.bytes(), own_memory_.fd(), board->nonce);
}

Status NodeMemory::Join(const RankMap& ranks, std::span<const MemoryName> of_node) {
  own_ = ranks.local_rank();
  std::vector<PeerMemory> memories;
  for (uint32_t local = 0; local < of_node.size(); ++local) {
    Result<PeerMemory> memory = PeerMemory::Map(of_node[local], PeerAccess::kReadWrite);
    const std::string who = fmt::format("rank {}", ranks.first_of(ranks.node()) + local);
    if (!memory.ok()) return memory.status().With(who);
    auto* board = reinterpret_cast<RankBoard*>(memory->data());
    if (board->nonce != of_node[local].nonce) {
      return Internal(
          fmt::format("{}: process {} is not the one of this number that this rank "
                      "sees: the ranks of a machine need one PID namespace",
                      who, of_node[local].process));
    }
    boards_.push_back(board);
    memories.push_back(std::move(*memory));
  }
  regions_.push_back(std::move(memories));
  return OkStatus();
}

Status NodeMemory::AddRegion(const RankMap& ranks, std::span<const MemoryName> of_node) {
  std::vector<PeerMemory> memories;
  for (uint32_t local = 0; local < of_node.size(); ++local) {
    // Our own is where we have it already: payloads are found by their address.
    MemoryName name = of_node[local];
    if (local == own_) name.process = getpid();
    Result<PeerMemory> memory = PeerMemory::Map(name, PeerAccess::kReadOnly);
    if (!memory.ok())
      return memory.status().With(fmt::format("rank {}", ranks.first_of(ranks.node()) + local));
    memories.push_back(std::move(*memory));
  }
  regions_.push_back(std::move(memories));
  return OkStatus();
}

void NodeMemory::RemoveRegion(std::span<const std::byte> own) {
  for (size_t region = 1; region < regions_.size(); ++region) {
    PeerMemory& memory = regions_[region][own_];
    if (!own.empty() && memory.data() == own.data()) memory = PeerMemory();
  }
}

Exposure NodeMemory::Find(std::span<const std::byte> payload) const {
  const auto at = reinterpret_cast<uintptr_t>(payload.data());
  for (uint32_t region = 1; region < regions_.size(); ++region) {
    const std::span<const std::byte> own = regions_[region][own_].bytes();
    const auto begin = reinterpret_cast<uintptr_t>(own.data());
    if (at >= begin && payload.size() <= own.size() && at - begin <= own.size() - payload.size())
      return {.region = region, .offset_bytes = at - begin};
  }
  return {};
}

const std::byte* NodeMemory::At(uint32_t local_rank, const Exposure& exposure) const {
  STRATA_CHECK(exposure.region < regions_.size());
  const std::span<const std::byte> region = regions_[exposure.region][local_rank].bytes();
  STRATA_CHECK(exposure.offset_bytes <= region.size());
  return region.data() + exposure.offset_bytes;
}

const std::byte* NodeMemory::Slot(uint32_t local_rank, ChannelId channel, uint64_t row) const {
  return regions_[0][local_rank].data() + SlotOffset(channel, row);
}

std::byte* NodeMemory::OwnSlot(ChannelId channel, uint64_t row) {
  return regions_[0][own_].data() + SlotOffset(channel, row);
}

}  // namespace strata::engine
