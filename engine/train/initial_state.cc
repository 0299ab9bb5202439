#include "engine/train/initial_state.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <vector>

#include "aio/base/units.h"
#include "engine/optimizer/split_master.h"
#include "engine/train/state_writer.h"

namespace strata::engine {
namespace {

using Bytes = std::span<std::byte>;

constexpr uint64_t kPieceElements = 64_KiB;

// Elements [first, first + piece.size()) of a unit: its tensors, and zero in the gaps between them.
Status ReadUnit(const UnitSpec& unit, WeightSource& source, uint64_t first,
                std::span<float> piece) {
  std::fill(piece.begin(), piece.end(), 0.0f);
  for (const TensorSpec& tensor : unit.tensors) {
    uint64_t begin = std::max(first, tensor.offset_elements);
    uint64_t end = std::min(first + piece.size(), tensor.offset_elements + tensor.num_elements);
    if (begin >= end) continue;
    STRATA_RETURN_IF_ERROR(ReadTensor(source, tensor, begin - tensor.offset_elements,
                                      piece.subspan(begin - first, end - begin)));
  }
  return OkStatus();
}

template <typename T, typename Convert>
void StoreAs(std::span<const float> values, std::byte* to, Convert convert) {
  for (size_t i = 0; i < values.size(); ++i) {
    T converted = convert(values[i]);
    std::memcpy(to + i * sizeof(T), &converted, sizeof(T));
  }
}

class Filler {
 public:
  Filler(const StateLayout& layout, uint32_t rank, WeightSource& source, ThreadPool& pool)
      : layout_(layout), rank_(rank), source_(source), pool_(pool) {}

  Status Fill(const StateBlock& block, Bytes content) {
    if (block.kind == StateKind::kM || block.kind == StateKind::kV) {  // 0 in every format
      std::memset(content.data(), 0, content.size());
      return OkStatus();
    }
    status_ = OkStatus();
    pool_.ParallelFor(CeilDiv(block.num_elements, kPieceElements),
                      [&](size_t piece) { FillPiece(block, content, piece * kPieceElements); });
    return status_;
  }

 private:
  void FillPiece(const StateBlock& block, Bytes content, uint64_t first) {
    std::vector<float> values(std::min(kPieceElements, block.num_elements - first));
    Status status = ReadUnit(layout_.unit_specs[block.unit], source_,
                             FirstElementOf(layout_, block, rank_) + first, values);
    if (status.ok()) {
      Store(block.kind, values, content.data(), first);
      return;
    }
    std::lock_guard lock(mutex_);
    status_ = status;
  }

  // As elements `first` and following of a block.
  void Store(StateKind kind, std::span<const float> values, std::byte* block,
             uint64_t first) const {
    bool is_weights = kind == StateKind::kWeights;
    if (kind == StateKind::kRemainder) {
      auto remainder = [](float value) { return RemainderOf(value); };
      StoreAs<int16_t>(values, block + first * sizeof(int16_t), remainder);
    } else if (is_weights && layout_.options.precision == DType::kBf16) {
      StoreAs<Bf16>(values, block + first * sizeof(Bf16), ToBf16);
    } else if (is_weights && layout_.options.precision == DType::kF16) {
      StoreAs<F16>(values, block + first * sizeof(F16), ToHalf);
    } else {
      std::memcpy(block + first * sizeof(float), values.data(), values.size_bytes());
    }
  }

  const StateLayout& layout_;
  const uint32_t rank_;
  WeightSource& source_;
  ThreadPool& pool_;
  std::mutex mutex_;
  Status status_;
};

}  // namespace

Status WriteInitialState(const StateLayout& layout, uint32_t rank, WeightSource& source,
                         StateAccess& state, ThreadPool& pool,
                         const std::function<void(uint64_t, uint64_t)>& on_progress) {
  Filler filler(layout, rank, source, pool);
  uint64_t total = layout.size_bytes();
  uint64_t done = 0;
  StateWriter writer(state);
  for (uint32_t i = 0; i < layout.blocks.size(); ++i) {
    const StateBlock& block = layout.blocks[i];
    STRATA_RETURN_IF_ERROR(
        writer.Write(i, [&](Bytes content) { return filler.Fill(block, content); }));
    done += block.size_bytes();
    if (on_progress) on_progress(done, total);
  }
  return writer.Finish();
}

}  // namespace strata::engine
