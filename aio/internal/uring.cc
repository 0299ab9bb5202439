#include "aio/internal/uring.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <span>

#include "aio/base/check.h"
#include "aio/internal/wake_fd.h"

namespace strata::aio {
namespace {

struct SetupChoice {
  uint32_t flags;
  std::string_view lacks;  // compared with the first choice
};

// Best first. A ring that only one thread submits to, and whose completions wait for that thread,
// interrupts nobody; it starts disabled because it is set up by another thread.
constexpr std::array<SetupChoice, 3> kSetupChoices = {{
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED, ""},
    {IORING_SETUP_COOP_TASKRUN, "DEFER_TASKRUN"},
    {0, "DEFER_TASKRUN and COOP_TASKRUN"},
}};
// With a thread of the kernel that submits, it is that one which does the work of completions.
constexpr std::array<SetupChoice, 2> kSqpollSetupChoices = {{
    {IORING_SETUP_SQPOLL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_R_DISABLED, ""},
    {IORING_SETUP_SQPOLL, "SINGLE_ISSUER"},
}};
constexpr uint32_t kSqpollIdleMs = 50;

std::span<const SetupChoice> SetupChoices(const IoEngineOptions& options) {
  if (options.sqpoll) return kSqpollSetupChoices;
  return kSetupChoices;
}

std::string KernelRelease() {
  utsname name;
  return uname(&name) == 0 ? name.release : "unknown";
}

Status Refused(int error_number, std::string_view call) {
  if (error_number == EMFILE || error_number == ENFILE)
    return DescriptorRefused(error_number, call);
  return Unavailable(
      ErrnoStatus(error_number, call).message() +
      ": let this process use io_uring (Linux 5.6 or newer, "
      "sysctl kernel.io_uring_disabled=0, a container's seccomp profile, ulimit -l)");
}

std::string RegisteredNote(const MemoryChunks& chunks) {
  return fmt::format("registered {} in {} {}", FormatBytes(chunks.size_bytes()),
                     chunks.num_chunks(), chunks.num_chunks() == 1 ? "chunk" : "chunks");
}

// One for every transfer and one for the wake-up. The thread of sqpoll gives entries back a batch
// at a time: completions, and what is submitted after them, may overtake that by one batch.
uint32_t NumEntries(const IoEngineOptions& options) {
  uint32_t at_a_time = options.queue_depth + 1;
  return options.sqpoll ? 2 * at_a_time : at_a_time;
}

}  // namespace

Result<std::unique_ptr<Uring>> Uring::Create(const IoEngineOptions& options) {
  std::unique_ptr<Uring> ring(new Uring);
  STRATA_RETURN_IF_ERROR(ring->SetUp(options));
  STRATA_RETURN_IF_ERROR(ring->CheckOperations());
  if (!options.registered_memory.empty()) ring->Register(MemoryChunks(options.registered_memory));
  return ring;
}

Status Uring::SetUp(const IoEngineOptions& options) {
  int result = -EINVAL;
  for (const SetupChoice& choice : SetupChoices(options)) {
    io_uring_params params = {};
    params.flags = choice.flags | (options.iopoll ? IORING_SETUP_IOPOLL : 0);
    params.sq_thread_idle = kSqpollIdleMs;
    result = io_uring_queue_init_params(NumEntries(options), &ring_, &params);
    if (result == -EINVAL) continue;  // an older kernel
    if (result < 0) break;
    is_set_up_ = true;
    starts_disabled_ = (choice.flags & IORING_SETUP_R_DISABLED) != 0;
    return TakeStock(options, params, choice.lacks);
  }
  return Refused(-result, "io_uring_setup");
}

Status Uring::TakeStock(const IoEngineOptions& options, const io_uring_params& params,
                        std::string_view lacks) {
  if (!lacks.empty()) notes_.push_back(fmt::format("no {} (kernel {})", lacks, KernelRelease()));
  if (options.sqpoll && (params.features & IORING_FEAT_SQPOLL_NONFIXED) == 0)
    return Unavailable("[aio] sqpoll = true needs Linux 5.11 or newer: set it to false");
  if (options.sqpoll) {
    notes_.push_back(
        fmt::format("sqpoll: a kernel thread spins on a core until nothing was submitted for {} ms",
                    kSqpollIdleMs));
  }
  if (options.iopoll) notes_.push_back("iopoll: the thread spins while anything is in flight");
  return OkStatus();
}

Status Uring::CheckOperations() {
  std::unique_ptr<io_uring_probe, decltype(&io_uring_free_probe)> probe(
      io_uring_get_probe_ring(&ring_), io_uring_free_probe);
  for (int operation :
       {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED}) {
    if (!probe || !io_uring_opcode_supported(probe.get(), operation))
      return Refused(EOPNOTSUPP, "io_uring_register(PROBE)");
  }
  return OkStatus();
}

void Uring::Register(const MemoryChunks& chunks) {
  std::vector<iovec> vectors;
  for (uint32_t i = 0; i < chunks.num_chunks(); ++i) {
    std::span<std::byte> chunk = chunks.chunk(i);
    vectors.push_back({chunk.data(), chunk.size()});
  }
  int result =
      io_uring_register_buffers(&ring_, vectors.data(), static_cast<unsigned>(vectors.size()));
  if (result < 0) {
    notes_.push_back(fmt::format(
        "not registered: {}, transfers cost more CPU; raise the limit on locked memory (ulimit -l)",
        ErrnoStatus(-result, "register " + FormatBytes(chunks.size_bytes())).message()));
    return;
  }
  registered_ = chunks;
  notes_.push_back(RegisteredNote(chunks));
}

Uring::~Uring() {
  if (is_set_up_) io_uring_queue_exit(&ring_);
}

void Uring::EnableHere() {
  if (!starts_disabled_) return;
  // io_uring_enable_rings(), which the shared library of liburing 2.3 forgets to export.
  STRATA_CHECK(syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr,
                       0) == 0);
}

}  // namespace strata::aio
