// A whole model run unit by unit in plain memory: no tiers, no plan, no streams. What training does
// to the numbers, and nothing else.
#pragma once

#include <cstdint>
#include <new>
#include <span>
#include <string>
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
  using Buffer = std::vector<std::byte, AlignedAllocator<std::byte>>;

  PlainRun(const LlamaConfig& config, DType dtype, const BatchShape& batch, Kernels* kernels);

  const LlamaModel& model() const { return model_; }
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

  // One unit, by its place. The workspace has exactly the size the model asks for.
  Buffer Forward(size_t unit, Buffer& x);
  void Backward(size_t unit, Buffer& x, Buffer& d);
  // Loss sum; d is set. Without d: the loss alone.
  double Head(Buffer& x, std::span<const int32_t> targets, float gradient_scale, Buffer* d);

 private:
  struct TensorPlace {
    size_t unit;
    const TensorSpec* tensor;
  };
  TensorPlace Find(const std::string& tensor) const;
  Buffer Poisoned(uint64_t size_bytes) const { return Buffer(size_bytes, poison_); }
  Buffer Workspace(UnitKind kind, Pass pass) const;
  Intermediates intermediates() const {
    return kept_.empty() ? Intermediates::kRecompute : Intermediates::kKeep;
  }
  std::span<std::byte> Kept(size_t unit) {
    return kept_.empty() ? std::span<std::byte>() : std::span<std::byte>(kept_[unit]);
  }
  // Inputs of every unit, the head's included.
  std::vector<Buffer> ForwardAll(std::span<const int32_t> tokens);

  DType dtype_;
  std::vector<UnitSpec> units_;
  LlamaModel model_;
  std::vector<Buffer> weights_;    // by unit
  std::vector<Buffer> gradients_;  // by unit, fp32
  std::vector<Buffer> kept_;       // by unit; empty: backward recomputes
  std::byte poison_{0xff};
};

// Elements of a buffer of `dtype`, and back.
std::vector<float> ToFloats(std::span<const std::byte> bytes, DType dtype);
PlainRun::Buffer FromFloats(std::span<const float> values, DType dtype);
std::vector<float> RandomFloats(size_t count, uint32_t seed);
std::vector<int32_t> RandomTokens(const BatchShape& batch, uint64_t vocab_size, uint32_t seed);

}  // namespace strata::engine
