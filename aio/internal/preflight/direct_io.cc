// Direct I/O, tried on a file without a name.
#include "aio/internal/direct_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "aio/base/units.h"
#include "aio/file.h"
#include "aio/internal/block_device.h"
#include "aio/internal/preflight/findings.h"
#include "aio/internal/retry.h"
#include "aio/io_buffer.h"

namespace strata::aio {
namespace {

const Topic kDirectIo = {"direct_io", "direct I/O"};
const Topic kInUse = {"device_use", "in use"};
const Topic kTrial = {"trial_write", "trial write"};

constexpr uint64_t kTrialBytes = 1_MiB;

class TrialFile {
 public:
  explicit TrialFile(const std::string& directory)
      : fd_(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
    if (fd_ >= 0) return;
    // Not every file system has files without a name; then one that loses it at once.
    std::string path = directory + "/.strata-check-XXXXXX";
    fd_ = mkostemp(path.data(), O_CLOEXEC);
    if (fd_ >= 0 && unlink(path.c_str()) != 0) left_behind_ = path;
  }
  TrialFile(const TrialFile&) = delete;
  ~TrialFile() {
    if (fd_ >= 0) static_cast<void>(close(fd_));  // nobody needs what was written
  }
  int fd() const { return fd_; }
  const std::string& left_behind() const { return left_behind_; }

 private:
  int fd_;
  std::string left_behind_;
};

Finding AlignmentFinding(int fd) {
  DirectIoAlignment alignment = AskDirectIoAlignment(fd);
  int flags = fcntl(fd, F_GETFL);
  bool refused = alignment.offset_bytes == 0 || alignment.memory_bytes == 0 || flags < 0 ||
                 fcntl(fd, F_SETFL, flags | O_DIRECT) != 0;
  if (refused) {
    return kDirectIo.Note(
        "none",
        "All bytes go through the page cache: that costs cores and memory, and what "
        "is measured is partly memory. A file system on a drive (ext4, xfs) has "
        "direct I/O.");
  }
  return kDirectIo.Fine(fmt::format("offsets at multiples of {} bytes, memory of {}",
                                    alignment.offset_bytes, alignment.memory_bytes));
}

// Reserves, writes and reads back. Returns an errno.
int Try(int fd, std::span<std::byte> memory) {
  std::memset(memory.data(), 0x5a, memory.size());
  off_t size = static_cast<off_t>(memory.size());
  if (RetryOnEintr([&] { return fallocate(fd, 0, 0, size); }) != 0 && errno != EOPNOTSUPP)
    return errno;
  ssize_t moved = RetryOnEintr([&] { return pwrite(fd, memory.data(), memory.size(), 0); });
  if (moved < 0) return errno;
  if (moved != size) return ENOSPC;
  std::memset(memory.data(), 0, memory.size());
  moved = RetryOnEintr([&] { return pread(fd, memory.data(), memory.size(), 0); });
  if (moved < 0) return errno;
  auto is_written = [](std::byte byte) { return byte == std::byte{0x5a}; };
  return moved == size && std::all_of(memory.begin(), memory.end(), is_written) ? 0 : EIO;
}

Finding TrialFailed(const std::string& directory, int error_number) {
  std::string value = ErrnoStatus(error_number, "write " + FormatBytes(kTrialBytes)).message();
  switch (error_number) {
    case EDQUOT:
      return kTrial.Problem(value, "This user's quota is used up: make room, or have it raised.",
                            "quota -s");
    case ENOSPC:
      return kTrial.Problem(value, "The file system is full for this user.",
                            "df -h " + Quoted(directory));
    case EMFILE:
    case ENFILE:
      return kTrial.Problem(value, "No more files can be opened.", "ulimit -n 65536");
    default:
      return kTrial.Problem(value, "The drive or file system fails: look at the kernel's log.",
                            "sudo dmesg | tail -n 30");
  }
}

// A process that writes past its limit gets a signal that ends it.
bool MayWriteTrial() {
  rlimit limit = {};
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur >= kTrialBytes;
}

Finding TrialFinding(const std::string& directory, int fd) {
  if (!MayWriteTrial()) {
    return kTrial.Problem("not made", "The limit on the size of files forbids even 1 MiB.",
                          "ulimit -f unlimited");
  }
  Result<HugeMemory> memory = HugeMemory::Map(kTrialBytes);
  if (!memory.ok())
    return kTrial.Problem(memory.status().message(), "There is no memory to try with.");
  int error_number = Try(fd, memory->bytes());
  if (error_number != 0) return TrialFailed(directory, error_number);
  return kTrial.Fine(FormatBytes(kTrialBytes) + " written and read back");
}

Finding CannotOpenDevice(int error_number) {
  std::string value = ErrnoStatus(error_number, "open").message();
  if (geteuid() != 0) {
    return kInUse.Problem(value, "root and the group disk may open drives.",
                          "sudo usermod -aG disk \"$USER\"");
  }
  return kInUse.Problem(value,
                        "Not even root may open the device here: a container must be given it, as "
                        "docker does with --device.");
}

}  // namespace

std::vector<Finding> DirectIoFindings(const std::string& directory) {
  TrialFile file(directory);
  if (file.fd() < 0) return {TrialFailed(directory, errno)};
  std::vector<Finding> findings = {AlignmentFinding(file.fd())};
  findings.push_back(TrialFinding(directory, file.fd()));
  if (!file.left_behind().empty()) {
    findings.push_back(kTrial.Problem("its file could not be removed",
                                      "Files can be made here, but not removed.",
                                      "rm " + Quoted(file.left_behind())));
  }
  return findings;
}

Finding DirectIoOfFile(const std::string& path) {
  Result<File> file = File::Open(path, {.direct = false, .block_devices = BlockDevices::kAllow});
  if (!file.ok()) return kDirectIo.Problem(file.status().message(), "The file cannot be opened.");
  return AlignmentFinding(file->fd());
}

std::vector<Finding> DeviceFindings(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
  if (fd < 0 && errno != EBUSY) return {CannotOpenDevice(errno)};
  bool in_use = fd < 0;
  if (!in_use) static_cast<void>(close(fd));
  return {in_use ? kInUse.Problem("yes", BlockDeviceInUse(path).message(), "lsblk " + Quoted(path))
                 : kInUse.Note("no",
                               "Writing to a device destroys what is on it: make sure that nobody "
                               "needs that.",
                               "lsblk -f " + Quoted(path)),
          DirectIoOfFile(path)};
}

}  // namespace strata::aio
