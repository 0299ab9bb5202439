#include "engine/comm/nccl/gpu_meeting.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "engine/comm/nccl/nccl_comm.h"

namespace strata::engine {
namespace {

// As it is sent.
struct Facts {
  uint32_t machine = 0;
  int32_t nccl_version = 0;
  Code code = Code::kOk;
  std::array<char, 64> bus_id = {};
  std::array<char, 1024> why = {};
  NcclUniqueId id = {};
};

template <size_t N>
void Copy(const std::string& text, std::array<char, N>* to) {
  std::memcpy(to->data(), text.data(), std::min(text.size(), N - 1));
}

Facts FactsOf(uint32_t machine, const Result<GpuFacts>& mine) {
  Facts facts;
  facts.machine = machine;
  facts.code = mine.status().code();
  if (!mine.ok()) {
    Copy(mine.status().message(), &facts.why);
    return facts;
  }
  facts.nccl_version = mine->nccl_version;
  facts.id = mine->id;
  Copy(mine->bus_id, &facts.bus_id);
  return facts;
}

Status CheckVersions(const std::vector<Facts>& all) {
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank].nccl_version == all[0].nccl_version) continue;
    return FailedPrecondition(fmt::format(
        "rank 0 has NCCL {}, rank {} has {}: install the same everywhere, or name the directory of "
        "one in STRATA_CUDA_LIBRARIES",
        NcclVersionText(all[0].nccl_version), rank, NcclVersionText(all[rank].nccl_version)));
  }
  return OkStatus();
}

Status CheckGpus(const std::vector<Facts>& all) {
  std::map<std::pair<uint32_t, std::string>, size_t> rank_of;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const auto [found, is_new] =
        rank_of.try_emplace({all[rank].machine, all[rank].bus_id.data()}, rank);
    if (is_new) continue;
    return FailedPrecondition(
        fmt::format("ranks {} and {} have one GPU ({}), and NCCL needs one for each: start as many "
                    "ranks as the "
                    "machine has GPUs; [train] device = \"cuda\" gives local rank N the N-th that "
                    "CUDA_VISIBLE_DEVICES shows",
                    found->second, rank, all[rank].bus_id.data()));
  }
  return OkStatus();
}

}  // namespace

Result<GpuFacts> MeetOnGpus(const World& world, uint32_t machine, Channel& control,
                            const Result<GpuFacts>& mine) {
  const Facts facts = FactsOf(machine, mine);
  std::vector<Facts> all(world.ranks().world_size());
  STRATA_RETURN_IF_ERROR(control.AllGather(std::as_bytes(std::span(&facts, 1)),
                                           std::as_writable_bytes(std::span(all))));
  if (!mine.ok()) return mine.status();
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].code != Code::kOk)
      return Status(all[rank].code, fmt::format("rank {}: {}", rank, all[rank].why.data()));
  }
  STRATA_RETURN_IF_ERROR(CheckVersions(all));
  STRATA_RETURN_IF_ERROR(CheckGpus(all));
  return GpuFacts{all[0].nccl_version, all[0].bus_id.data(), all[0].id};
}

}  // namespace strata::engine
