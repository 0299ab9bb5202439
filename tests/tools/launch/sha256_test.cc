#include "tools/launch/sha256.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "tests/or_die.h"

namespace strata::launch {
namespace {

TEST(Sha256, GivesTheDigestsOfTheStandard) {
  // FIPS 180-4's examples.
  EXPECT_EQ(ToHex(Sha256Of("")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(ToHex(Sha256Of("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ToHex(Sha256Of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(ToHex(Sha256Of(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Every length around the ends of blocks, beside coreutils.
TEST(Sha256, AgreesWithSha256sumAtEveryLengthAndInAnyPieces) {
  const std::string path = std::string(STRATA_BINARY_DIR) + "/tests/sha256-test-file";
  std::string text;
  for (size_t length = 0; length <= 130; ++length) {
    std::ofstream(path, std::ios::binary) << text;
    FILE* pipe = popen(("sha256sum " + path).c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    char expected[65] = {};
    ASSERT_EQ(fread(expected, 1, 64, pipe), 64u);
    pclose(pipe);
    EXPECT_EQ(ToHex(Sha256Of(text)), expected) << length;
    EXPECT_EQ(ToHex(OrDie(Sha256OfFile(path))), expected) << length;
    Sha256 in_pieces;
    for (char c : text) in_pieces.Add(std::string(1, c));
    EXPECT_EQ(ToHex(in_pieces.Finish()), expected) << length;
    text += static_cast<char>('a' + length * 7 % 26);
  }
  unlink(path.c_str());
}

TEST(Sha256, HmacGivesTheDigestsOfRfc4231) {
  EXPECT_EQ(ToHex(HmacSha256(std::string(20, '\x0b'), "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(ToHex(HmacSha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(ToHex(HmacSha256(std::string(131, '\xaa'),
                             "Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Sha256, DigestsAreEqualOnlyWhenEveryByteIs) {
  const Digest digest = Sha256Of("x");
  for (size_t i = 0; i < digest.size(); ++i) {
    Digest other = digest;
    other[i] ^= 1;
    EXPECT_FALSE(Equal(digest, other));
  }
  EXPECT_TRUE(Equal(digest, digest));
}

}  // namespace
}  // namespace strata::launch
