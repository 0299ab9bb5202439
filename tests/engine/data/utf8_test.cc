#include "engine/data/internal/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace strata::engine::data_internal {
namespace {

std::string Encoded(uint32_t code) {
  auto tail = [&](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | (code >> 6)), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xe0 | (code >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xf0 | (code >> 18)), tail(12), tail(6), tail(0)};
}

TEST(Utf8, EveryCodePointIsValidButSurrogates) {
  for (uint32_t code = 0; code <= 0x10ffff; ++code) {
    Utf8Scan scan = ScanUtf8(Encoded(code));
    bool is_surrogate = code >= 0xd800 && code <= 0xdfff;
    ASSERT_EQ(scan.is_invalid, is_surrogate) << code;
    ASSERT_EQ(scan.valid_bytes, is_surrogate ? 0 : Encoded(code).size()) << code;
  }
}

TEST(Utf8, OverlongFormsAndWhatLiesAboveUnicodeAreInvalid) {
  for (const char* text :
       {"\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\x80", "\xff", "\xc3(", "\xe2\x82("})
    EXPECT_TRUE(ScanUtf8(text).is_invalid) << text;
}

TEST(Utf8, ACharacterCutByTheEndIsNotInvalidYet) {
  for (const char* text : {"abc\xc3", "abc\xe2\x82", "abc\xf0\x9f\x98"}) {
    Utf8Scan scan = ScanUtf8(text);
    EXPECT_FALSE(scan.is_invalid);
    EXPECT_EQ(scan.valid_bytes, 3u);
  }
}

TEST(Utf8, TheFirstInvalidByteIsFoundWhereverItStands) {
  for (size_t at = 0; at < 40; ++at) {
    std::string text(40, 'x');
    text[at] = '\xff';
    EXPECT_EQ(ScanUtf8(text).valid_bytes, at);
    EXPECT_TRUE(ScanUtf8(text).is_invalid);
  }
}

}  // namespace
}  // namespace strata::engine::data_internal
