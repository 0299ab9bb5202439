#include "engine/data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::engine {
namespace {

using testing::ElementsAre;

TEST(ByteTokenizer, IdsAreTheBytesOfTheText) {
  std::vector<uint16_t> ids = {7};
  MakeByteTokenizer()->Encode("a\xc3\xa9", ids);
  EXPECT_THAT(ids, ElementsAre(7, 'a', 0xc3, 0xa9));  // appended
}

TEST(ByteTokenizer, TheEndOfADocumentIsNoByte) {
  std::unique_ptr<Tokenizer> tokenizer = MakeByteTokenizer();
  EXPECT_EQ(tokenizer->end_of_document(), 256u);
  EXPECT_EQ(tokenizer->vocab_size(), 259u);
}

}  // namespace
}  // namespace strata::engine
