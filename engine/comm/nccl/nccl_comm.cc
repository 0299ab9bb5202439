#include "engine/comm/nccl/nccl_comm.h"

#include <fmt/format.h>

#include <memory>
#include <thread>

namespace strata::engine {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr int kSpins = 500;  // about what a launch takes
constexpr microseconds kPause(200);
constexpr std::chrono::seconds kTimeToFinish(5);

Status Ended(std::string_view what) {
  return Unavailable(fmt::format("{}: NCCL's communicator was aborted", what));
}

Code CodeOf(NcclResult result) {
  switch (result) {
    case NcclResult::kSystemError:
      return Code::kIoError;
    case NcclResult::kRemoteError:
      return Code::kUnavailable;
    default:
      return Code::kInternal;
  }
}

}  // namespace

Result<std::unique_ptr<NcclComm>> NcclComm::Create(const NcclFunctions& functions,
                                                   const Options& options,
                                                   const std::function<Status()>& check) {
  std::unique_ptr<NcclComm> comm(new NcclComm(functions));
  const Status started = comm->Start(options, check);
  if (started.ok()) return comm;
  comm->Abort();
  return started;
}

Status NcclComm::Start(const Options& options, const std::function<Status()>& check) {
  const Clock::time_point end = Clock::now() + options.deadline;
  const auto check_in_time = [&]() -> Status {
    STRATA_RETURN_IF_ERROR(check());
    if (options.deadline.count() == 0 || Clock::now() < end) return OkStatus();
    return Status(
        Code::kDeadlineExceeded,
        fmt::format("the ranks' GPUs did not find each other in {:.1f} s: NCCL_DEBUG=INFO "
                    "shows what NCCL tries; NCCL_SOCKET_IFNAME chooses a network",
                    std::chrono::duration<double>(options.deadline).count()));
  };
  NcclConfig config;
  NcclResult result = NcclResult::kSuccess;
  {
    std::lock_guard lock(mutex_);
    result = functions_.init_rank(&comm_, static_cast<int>(options.world_size), options.id,
                                  static_cast<int>(options.rank), &config);
  }
  return Await(result, "start NCCL", check_in_time);
}

NcclComm::~NcclComm() { Abort(); }

Status NcclComm::Do(const Work& work, std::string_view what) {
  return Do(work, what, [] { return OkStatus(); });
}

Status NcclComm::Do(const Work& work, std::string_view what, const std::function<Status()>& check) {
  NcclResult result = NcclResult::kSuccess;
  {
    std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return Ended(what);
    result = work(functions_, comm_);
  }
  return Await(result, what, check);
}

Status NcclComm::DoTogether(const Work& work, std::string_view what) {
  return Do(
      [&](const NcclFunctions& functions, ncclComm* comm) {
        NcclResult result = functions.group_start();
        if (result != NcclResult::kSuccess) return result;
        result = work(functions, comm);
        const NcclResult end = functions.group_end();
        const bool is_under_way =
            result == NcclResult::kSuccess || result == NcclResult::kInProgress;
        return is_under_way ? end : result;
      },
      what);
}

Status NcclComm::Await(NcclResult result, std::string_view what,
                       const std::function<Status()>& check) {
  for (int asked = 0; result == NcclResult::kInProgress; ++asked) {
    if (asked < kSpins) {
      std::this_thread::yield();
    } else {
      STRATA_RETURN_IF_ERROR(check());
      std::this_thread::sleep_for(kPause);
    }
    std::lock_guard lock(mutex_);
    if (comm_ == nullptr) return Ended(what);
    result = State();
  }
  std::lock_guard lock(mutex_);
  return Failed(result, what);
}

Status NcclComm::AsyncError() {
  std::lock_guard lock(mutex_);
  if (comm_ == nullptr) return OkStatus();
  const NcclResult result = State();
  return result == NcclResult::kInProgress ? OkStatus() : Failed(result, "on the GPU");
}

NcclResult NcclComm::State() {
  NcclResult result = NcclResult::kSuccess;
  const NcclResult asked = functions_.get_async_error(comm_, &result);
  return asked == NcclResult::kSuccess ? result : asked;
}

Status NcclComm::Failed(NcclResult result, std::string_view what) const {
  if (result == NcclResult::kSuccess) return OkStatus();
  const char* last = functions_.get_last_error(comm_);
  std::string text = fmt::format("{}: NCCL: {}", what, functions_.get_error_string(result));
  if (last != nullptr && *last != '\0') text += fmt::format(": {}", last);
  return Status(CodeOf(result), std::move(text));
}

void NcclComm::Abort() {
  std::lock_guard lock(mutex_);
  // Whatever it says: there is nothing else that could be done.
  if (comm_ != nullptr) static_cast<void>(functions_.abort(comm_));
  comm_ = nullptr;
}

void NcclComm::Finish() {
  const Clock::time_point end = Clock::now() + kTimeToFinish;
  const Status finished = Do(
      [](const NcclFunctions& functions, ncclComm* comm) { return functions.finalize(comm); },
      "finish NCCL",
      [end] { return Clock::now() < end ? OkStatus() : Status(Code::kDeadlineExceeded, "late"); });
  if (!finished.ok()) return Abort();
  std::lock_guard lock(mutex_);
  if (comm_ != nullptr) static_cast<void>(functions_.destroy(comm_));
  comm_ = nullptr;
}

std::string NcclVersionText(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace strata::engine
