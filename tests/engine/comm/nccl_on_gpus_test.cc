// The collectives of GPUs as NVIDIA's NCCL does them, over ranks that are threads with a GPU each.
// On a machine of one GPU, which NCCL gives to one rank only, that is a world of one rank.
#include <gtest/gtest.h>

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

#include <vector>

#include "engine/comm/nccl/nccl_functions.h"
#include "tests/aio/scratch.h"
#include "tests/engine/comm/gpu_payloads.h"
#include "tests/engine/comm/thread_world.h"

namespace strata::engine {
namespace {

#if __has_include(<nccl.h>)
// What nccl_functions.h declares is what the library's own header does.
static_assert(sizeof(NcclUniqueId) == sizeof(ncclUniqueId));
static_assert(static_cast<int>(NcclResult::kSuccess) == ncclSuccess);
static_assert(static_cast<int>(NcclResult::kUnhandledCudaError) == ncclUnhandledCudaError);
static_assert(static_cast<int>(NcclResult::kSystemError) == ncclSystemError);
static_assert(static_cast<int>(NcclResult::kInternalError) == ncclInternalError);
static_assert(static_cast<int>(NcclResult::kInvalidArgument) == ncclInvalidArgument);
static_assert(static_cast<int>(NcclResult::kInvalidUsage) == ncclInvalidUsage);
static_assert(static_cast<int>(NcclResult::kRemoteError) == ncclRemoteError);
static_assert(static_cast<int>(NcclResult::kInProgress) == ncclInProgress);
static_assert(static_cast<int>(NcclType::kByte) == ncclUint8);
static_assert(offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking));

// A function of ours and one of the library's take the same arguments, of the same sizes.
template <typename... Ours, typename... Theirs>
constexpr bool AreAlike(NcclResult (*)(Ours...), ncclResult_t (*)(Theirs...)) {
  return ((sizeof(Ours) == sizeof(Theirs) &&
           std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>)&&...);
}
template <auto member>
using FunctionOf = std::remove_reference_t<decltype(std::declval<NcclFunctions>().*member)>;
template <auto member, auto function>
constexpr bool kIsAs = AreAlike(FunctionOf<member>{}, decltype(function){});
static_assert(kIsAs<&NcclFunctions::get_version, &ncclGetVersion>);
static_assert(kIsAs<&NcclFunctions::get_unique_id, &ncclGetUniqueId>);
static_assert(kIsAs<&NcclFunctions::init_rank, &ncclCommInitRankConfig>);
static_assert(kIsAs<&NcclFunctions::finalize, &ncclCommFinalize>);
static_assert(kIsAs<&NcclFunctions::destroy, &ncclCommDestroy>);
static_assert(kIsAs<&NcclFunctions::abort, &ncclCommAbort>);
static_assert(kIsAs<&NcclFunctions::get_async_error, &ncclCommGetAsyncError>);
static_assert(kIsAs<&NcclFunctions::group_start, &ncclGroupStart>);
static_assert(kIsAs<&NcclFunctions::group_end, &ncclGroupEnd>);
static_assert(kIsAs<&NcclFunctions::all_gather, &ncclAllGather>);
static_assert(kIsAs<&NcclFunctions::broadcast, &ncclBroadcast>);
static_assert(kIsAs<&NcclFunctions::send, &ncclSend>);
static_assert(kIsAs<&NcclFunctions::receive, &ncclRecv>);
#endif

int NumGpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

class NcclOnGpusTest : public testing::Test {
 protected:
  // A machine of one GPU has no need of NCCL: only where it is required (STRATA_REQUIRE=gpu,nccl)
  // is its absence a failure.
  void SetUp() override {
    if (NumGpus() == 0 && !IsRequired("gpu")) GTEST_SKIP() << "no GPU";
    const Status nccl = LoadNccl().status();
    if (!nccl.ok() && !IsRequired("nccl")) GTEST_SKIP() << nccl.message();
  }

  static void RunOnGpus(uint32_t num_ranks,
                        const std::function<void(Communicator&, Payloads&)>& body) {
    RunRanks(MachinesOf({num_ranks}), [&](Communicator& communicator) {
      const Status used = communicator.UseGpu(
          {.device = static_cast<int>(communicator.rank()), .staging_bytes = uint64_t{1} << 20});
      ASSERT_TRUE(used.ok()) << used.ToString();
      GpuPayloads payloads(communicator.rank());
      body(communicator, payloads);
    });
  }
};

TEST_F(NcclOnGpusTest, OneRankGetsWhatItGives) {
  RunOnGpus(1, [](Communicator& communicator, Payloads& payloads) {
    CheckEveryCollectiveOn(communicator, payloads);
    CheckTrafficOn(communicator, payloads, 1'000'000);
  });
}

TEST_F(NcclOnGpusTest, AnAbortEndsTheCommunicator) {
  RunOnGpus(1, [](Communicator& communicator, Payloads& payloads) {
    communicator.Abort(Internal("enough"));
    const Status status = communicator.channel(ChannelId::kCommLane)
                              .AllReduce(payloads.stream(), payloads.Take(64), DType::kF32);
    EXPECT_EQ(status.message(), "rank 0 aborts the collectives: enough");
  });
}

TEST_F(NcclOnGpusTest, AllGpusGiveTheBitsOfAPlainLoopInRankOrder) {
  const int num_gpus = NumGpus();
  if (num_gpus < 2) GTEST_SKIP() << "NCCL needs a GPU for each rank; this machine has " << num_gpus;
  RunOnGpus(static_cast<uint32_t>(num_gpus), [](Communicator& communicator, Payloads& payloads) {
    CheckEveryCollectiveOn(communicator, payloads);
    CheckRandomSequenceOn(communicator, ChannelId::kCommLane, payloads, 3, 200);
    CheckTrafficOn(communicator, payloads, 1'000'000);
  });
}

}  // namespace
}  // namespace strata::engine
