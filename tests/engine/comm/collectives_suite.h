// What collectives promise, as checks that every rank of a job runs at once. Used over threads,
// over MPI and TCP, and on GPUs. Each compares with what all ranks can compute on their own: a
// plain loop in rank order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "engine/comm/communicator.h"

namespace strata::engine {

// Where payloads are, at places that each rank takes by a chance of its own, and how they get
// there. The host touches them only through this.
class Payloads {
 public:
  explicit Payloads(uint64_t seed) : random_(seed) {}
  virtual ~Payloads() = default;

  virtual void Reset() = 0;  // all that was taken is free again
  virtual std::span<std::byte> Take(uint64_t size_bytes) = 0;
  virtual tiering::StreamContext stream() const = 0;
  virtual void Write(std::span<std::byte> to, std::span<const std::byte> bytes) = 0;
  // Once the stream is idle.
  virtual std::vector<std::byte> Read(std::span<const std::byte> from) = 0;

  bool Coin() { return random_() % 2 == 0; }

 protected:
  uint64_t Random() { return random_(); }

 private:
  std::mt19937_64 random_;
};

inline constexpr uint64_t kPayloadBytes = uint64_t{20} << 20;  // for any collective of the suite

// Each kind once, at sizes from none to several rows, with payloads where they are shared and where
// they are not.
void CheckEveryCollective(Communicator& communicator);
// The same elsewhere, up to so many elements for each rank.
inline constexpr uint64_t kMostElements = 300'001;
void CheckEveryCollectiveOn(Communicator& communicator, Payloads& payloads,
                            uint64_t most_elements = kMostElements);

// Random ones, on two channels at once from two threads.
void CheckRandomSequences(Communicator& communicator, uint64_t seed, int num_collectives);
// On one channel.
void CheckRandomSequenceOn(Communicator& communicator, ChannelId id, Payloads& payloads,
                           uint64_t seed, int num_collectives);

// What is counted is what theory says: (N-1)/N of the payload each way.
void CheckTraffic(Communicator& communicator);
void CheckTrafficOn(Communicator& communicator, Payloads& payloads, uint64_t shard_bytes);

}  // namespace strata::engine
