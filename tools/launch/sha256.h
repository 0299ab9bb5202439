// SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104): what launchers know each other by.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "aio/base/status.h"

namespace strata::launch {

using Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  void Add(std::string_view bytes);
  // Once; nothing may be added after it.
  Digest Finish();

 private:
  void Compress(const uint8_t* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> buffer_ = {};
  size_t num_buffered_ = 0;
  uint64_t num_bytes_ = 0;
};

Digest Sha256Of(std::string_view bytes);
Result<Digest> Sha256OfFile(const std::string& path);
Digest HmacSha256(std::string_view key, std::string_view message);

// Takes the same time wherever they differ.
bool Equal(const Digest& a, const Digest& b);

std::string ToHex(const Digest& digest);
std::string_view AsBytes(const Digest& digest);

// 32 bytes that nobody can guess, from the kernel.
Result<Digest> RandomDigest();

}  // namespace strata::launch
