#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/log.h"
#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/internal/retry.h"
#include "aio/io_buffer.h"

namespace strata::aio {
namespace {

constexpr uint64_t kHugePageBytes = 2_MiB;
constexpr uint64_t kPageBytes = 4_KiB;
constexpr int kMadvPopulateWrite = 23;  // kernel 5.14; older headers lack the name
// Kernel 5.17, if built so; older headers lack them.
constexpr int kPrctlSetVma = 0x53564d41;
constexpr unsigned long kVmaAnonymousName = 0;

// What can be had without swapping, as the kernel estimates it.
std::optional<uint64_t> AvailableBytes() {
  Result<std::string> text = ReadSmallFile("/proc/meminfo", 1_MiB);
  constexpr std::string_view kKey = "MemAvailable:";
  size_t at = text.ok() ? text->find(kKey) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  at = text->find_first_not_of(' ', at + kKey.size());
  uint64_t kib = 0;
  auto [end, error] = std::from_chars(text->data() + at, text->data() + text->size(), kib);
  if (error != std::errc()) return std::nullopt;
  return kib << 10;
}

std::string What(uint64_t size_bytes) {
  std::optional<uint64_t> available = AvailableBytes();
  return fmt::format("allocate {} ({} bytes) of host memory, {} available", FormatBytes(size_bytes),
                     size_bytes, available ? FormatBytes(*available) : "an unknown amount");
}

// Behind each mapping there is a page that nobody may touch: who writes on ends there, and the
// kernel, which joins neighbours, keeps it apart from the next.
constexpr uint64_t kGuardBytes = kPageBytes;

// Address space, 2 MiB aligned, with its guard: maps more than asked and gives back what sticks
// out, so that the slack costs neither memory nor address space. nullptr with errno when there is
// none.
std::byte* MapAligned(uint64_t size_bytes) {
  uint64_t mapped_bytes = size_bytes + kGuardBytes + kHugePageBytes - kPageBytes;
  void* mapping = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  std::byte* begin = static_cast<std::byte*>(mapping);
  uint64_t head_bytes = RoundUp(reinterpret_cast<uintptr_t>(begin), kHugePageBytes) -
                        reinterpret_cast<uintptr_t>(begin);
  uint64_t tail_bytes = mapped_bytes - head_bytes - size_bytes - kGuardBytes;
  if (head_bytes > 0) STRATA_CHECK(munmap(begin, head_bytes) == 0);
  std::byte* guard = begin + head_bytes + size_bytes;
  if (tail_bytes > 0) STRATA_CHECK(munmap(guard + kGuardBytes, tail_bytes) == 0);
  STRATA_CHECK(mprotect(guard, kGuardBytes, PROT_NONE) == 0);
  return begin + head_bytes;
}

// Puts a file of memory where the private mapping is. A memfd, as it needs no mount, knows no limit
// of /dev/shm, and leaves nothing behind. Returns its descriptor, or -1 with errno.
int MapShared(std::span<std::byte> bytes, const std::string& name) {
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  if (fd < 0) return -1;
  if (ftruncate(fd, static_cast<off_t>(bytes.size())) == 0 &&
      mmap(bytes.data(), bytes.size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
          MAP_FAILED)
    return fd;
  const int error_number = errno;
  STRATA_CHECK(close(fd) == 0);
  errno = error_number;
  return -1;
}

// For whoever looks at /proc/PID/maps; nothing depends on it.
void NamePrivate(std::span<std::byte> bytes, const std::string& name) {
  prctl(kPrctlSetVma, kVmaAnonymousName, reinterpret_cast<unsigned long>(bytes.data()),
        bytes.size(), name.c_str());
}

// Every page present. Returns an errno.
int Populate(std::span<std::byte> bytes) {
  int result =
      RetryOnEintr([&] { return madvise(bytes.data(), bytes.size(), kMadvPopulateWrite); });
  if (result == 0) return 0;
  if (errno != EINVAL) return errno;
  for (size_t at = 0; at < bytes.size(); at += kPageBytes)
    *const_cast<volatile std::byte*>(&bytes[at]) = std::byte{0};
  return 0;
}

}  // namespace

Result<HugeMemory> HugeMemory::Map(uint64_t size_bytes, Sharing sharing, const std::string& name) {
  size_bytes = RoundUp(size_bytes, kPageBytes);
  if (size_bytes == 0) return HugeMemory({}, -1);
  std::optional<uint64_t> available = AvailableBytes();
  // The kernel would say yes and then kill somebody.
  if (available && size_bytes > *available)
    return ResourceExhausted(What(size_bytes) + ": lower the memory budgets or free some memory");
  std::byte* begin = MapAligned(size_bytes);
  if (int error_number = errno; begin == nullptr)
    return ErrnoStatus(error_number, What(size_bytes));
  HugeMemory memory({begin, size_bytes}, -1);
  if (sharing == Sharing::kShared) {
    memory.fd_ = MapShared(memory.bytes(), name);
    if (memory.fd_ < 0) return ErrnoStatus(errno, "share: " + What(size_bytes));
  } else {
    NamePrivate(memory.bytes(), name);
  }
  if (madvise(begin, size_bytes, MADV_HUGEPAGE) != 0) {
    Log(Severity::kWarning, "aio",
        "this kernel has no transparent huge pages: direct I/O will be slower");
  }
  if (int error_number = Populate(memory.bytes()); error_number != 0)
    return ErrnoStatus(error_number, "populate: " + What(size_bytes));
  return memory;
}

HugeMemory::HugeMemory(HugeMemory&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), fd_(std::exchange(other.fd_, -1)) {}

HugeMemory& HugeMemory::operator=(HugeMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);  // other unmaps ours
  std::swap(fd_, other.fd_);
  return *this;
}

HugeMemory::~HugeMemory() {
  if (!bytes_.empty()) STRATA_CHECK(munmap(bytes_.data(), bytes_.size() + kGuardBytes) == 0);
  if (fd_ >= 0) STRATA_CHECK(close(fd_) == 0);
}

}  // namespace strata::aio
