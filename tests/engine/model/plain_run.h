// A whole model run unit by unit in plain memory: no tiers, no plan, no streams. What training does
// to the numbers, and nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/llama.h"

namespace strata::engine {

// Memory aligned as a device's is.
template <typename T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <typename U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(256)));
  }
  void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t(256)); }
  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};

class PlainRun {
 public:
  using Bytes = std::span<std::byte>;
  using Buffer = std::vector<std::byte, AlignedAllocator<std::byte>>;

  // How large sublayers are cut, and how many parts one op takes (at most).
  struct Tiling {
    uint64_t part_elements = kUncut;
    uint32_t parts_per_op = ~0u;
  };

  PlainRun(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels)
      : PlainRun(config, dtype, batch, kernels, Tiling{}) {}
  PlainRun(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels,
           const Tiling& tiling);

  const LlamaModel& model() const { return model_; }
  // Of the model uncut: whole tensors.
  const std::vector<UnitSpec>& units() const { return units_; }

  void SetWeights(const std::string& tensor, std::span<const float> values);
  // Normal-like noise of about 1 / sqrt(columns), norms around 1; of `seed` alone.
  void RandomizeWeights(uint32_t seed);
  std::vector<float> Weights(const std::string& tensor) const;
  std::vector<float> Gradient(const std::string& tensor) const;

  // Every output and workspace holds this byte before it is used; 0xff makes NaNs.
  void PoisonWith(uint8_t byte) { poison_ = std::byte{byte}; }

  // From now on forward keeps the intermediates for backward, which then recomputes nothing.
  void KeepIntermediates();

  // Forward and backward of tokens [micro_batch, seq_len + 1]; gradients are added to. Returns the
  // sum of token losses.
  double Step(std::span<const int32_t> tokens, float gradient_scale);
  double Loss(std::span<const int32_t> tokens);

  // One sublayer, by its place. The workspace has exactly the size the model asks for.
  Buffer Forward(size_t sublayer, Buffer& x);
  void Backward(size_t sublayer, Buffer& x, Buffer& d);
  // Loss sum; d is set. Without d: the loss alone.
  double Head(Buffer& x, std::span<const int32_t> targets, float gradient_scale, Buffer* d);

 private:
  // A tile's operands, which hold on to what they point to.
  struct TileMemory {
    std::vector<UnitMemory> parts;
    TileOperands operands;
  };
  enum class Order : uint8_t { kAscending, kDescending };

  // visit(the unit's number, the tensor or part of it), for all parts of a tensor.
  template <typename Visit>
  void ForParts(const std::string& tensor, Visit&& visit) const;
  // Elements of a whole tensor, gathered from what `bytes_of` says are a unit's.
  std::vector<float> Gather(const std::string& tensor, const std::vector<Buffer>& units,
                            DType dtype) const;
  Buffer Poisoned(uint64_t size_bytes) const { return Buffer(size_bytes, poison_); }
  Intermediates intermediates() const {
    return kept_.empty() ? Intermediates::kRecompute : Intermediates::kKeep;
  }
  Bytes Kept(size_t sublayer, const Tile& tile);
  bool IsWhole(const Sublayer& sublayer) const {
    return sublayer.num_parts <= tiling_.parts_per_op;
  }
  TileMemory Operands(const Sublayer& sublayer, const Tile& tile);
  // visit(tile) over the sublayer's.
  template <typename Visit>
  void ForTiles(const Sublayer& sublayer, Order order, Visit&& visit);
  Status ForwardTile(size_t sublayer, const Tile& tile, Buffer& x, Buffer& y, Bytes sum);
  Status BackwardTile(size_t sublayer, const Tile& tile, Buffer& x, Buffer& d, Bytes sum);
  double HeadInTiles(Buffer& x, Bytes targets, float gradient_scale, Buffer& d);
  // Inputs of every sublayer, the head's included.
  std::vector<Buffer> ForwardAll(std::span<const int32_t> tokens);

  DType dtype_;
  Tiling tiling_;
  std::vector<UnitSpec> units_;  // uncut
  std::vector<UnitSpec> cut_units_;
  std::vector<Sublayer> sublayers_;
  LlamaModel model_;
  std::vector<Buffer> weights_;                         // by cut unit
  std::vector<Buffer> gradients_;                       // by cut unit, fp32
  std::map<std::pair<size_t, uint32_t>, Buffer> kept_;  // by sublayer and first part; empty: none
  std::byte poison_{0xff};
};

// Elements of a buffer of `dtype`, and back.
std::vector<float> ToFloats(std::span<const std::byte> bytes, DType dtype);
PlainRun::Buffer FromFloats(std::span<const float> values, DType dtype);
std::vector<float> RandomFloats(size_t count, uint32_t seed);
std::vector<int32_t> RandomTokens(const BatchShape& batch, uint64_t vocab_size, uint32_t seed);

}  // namespace strata::engine
