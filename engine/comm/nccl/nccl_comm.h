// One NCCL communicator: its life, its calls, its failures. No call of it waits for other ranks
// without an end.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "engine/comm/nccl/nccl_functions.h"

namespace strata::engine {

// Thread-safe: one thread puts collectives on streams, another looks after it. The CUDA device that
// was current when it was created must be in every thread.
class NcclComm {
 public:
  struct Options {
    uint32_t rank = 0;
    uint32_t world_size = 1;
    NcclUniqueId id = {};
    std::chrono::milliseconds deadline = {};  // 0: none
  };
  // Blocks until all ranks have come. Asks `check` again and again, and gives up when that fails;
  // kDeadlineExceeded when the deadline passes.
  static Result<std::unique_ptr<NcclComm>> Create(const NcclFunctions& functions,
                                                  const Options& options,
                                                  const std::function<Status()>& check);
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;

  // Calls something of the library's with the communicator, and waits until that is on its stream:
  // not until it is over, but, where ranks have never met this way, until they have come.
  using Work = std::function<NcclResult(const NcclFunctions& functions, ncclComm* comm)>;
  Status Do(const Work& work, std::string_view what);
  // The same for several that go at once.
  Status DoTogether(const Work& work, std::string_view what);

  // What went wrong since, on streams or in the library's own threads.
  Status AsyncError();
  // Ends what is on streams, and all that is asked for later; also from another thread, while one
  // is in Do().
  void Abort();
  // Once nothing is on streams any more, on any rank.
  void Finish();

 private:
  explicit NcclComm(const NcclFunctions& functions) : functions_(functions) {}
  Status Start(const Options& options, const std::function<Status()>& check);
  // Waits as long as the library says that something is in progress, and `check` says ok.
  Status Await(NcclResult result, std::string_view what, const std::function<Status()>& check);
  Status Do(const Work& work, std::string_view what, const std::function<Status()>& check);
  NcclResult State();  // under the mutex, with a communicator
  // "what: unhandled cuda error: the library's last words". Under the mutex.
  Status Failed(NcclResult result, std::string_view what) const;

  const NcclFunctions functions_;
  std::mutex mutex_;          // of all calls
  ncclComm* comm_ = nullptr;  // null once it is aborted
};

// "2.28.9".
std::string NcclVersionText(int version);

}  // namespace strata::engine
