#include "engine/data/internal/utf8.h"

#include <cstdint>
#include <cstring>

namespace strata::engine::data_internal {
namespace {

// 0 for a byte that starts no character.
size_t CharacterLength(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

// The second byte excludes overlong forms, surrogates and what lies above U+10FFFF.
bool IsSecond(uint8_t lead, uint8_t byte) {
  uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  return byte >= low && byte <= high;
}

bool IsContinuation(uint8_t byte) { return (byte & 0xc0) == 0x80; }

size_t SkipAscii(std::string_view text, size_t at) {
  for (uint64_t word; at + sizeof(word) <= text.size(); at += sizeof(word)) {
    std::memcpy(&word, text.data() + at, sizeof(word));
    if ((word & 0x8080808080808080u) != 0) break;
  }
  return at;
}

}  // namespace

Utf8Scan ScanUtf8(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  size_t at = SkipAscii(text, 0);
  while (at < text.size()) {
    size_t length = CharacterLength(byte(at));
    if (length == 0) return {at, true};
    for (size_t i = 1; i < length && at + i < text.size(); ++i) {
      bool fits = i == 1 ? IsSecond(byte(at), byte(at + 1)) : IsContinuation(byte(at + i));
      if (!fits) return {at, true};
    }
    if (at + length > text.size()) break;
    at = SkipAscii(text, at + length);
  }
  return {at, false};
}

}  // namespace strata::engine::data_internal
