#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/data/corpus_directory.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DatasetErrorsTest : public CorpusDirectory {};

TEST_F(DatasetErrorsTest, AMissingPathIsNamed) {
  DatasetOptions options = Options();
  options.path += "/gone";
  EXPECT_EQ(ErrorOf(options).code(), Code::kNotFound);
  EXPECT_THAT(ErrorOf(options).message(), HasSubstr("open data " + options.path + ": No such"));
}

TEST_F(DatasetErrorsTest, ADirectoryWithoutTextSaysWhatItSkipped) {
  Write("a.png", "x");
  Write("nul.txt", std::string_view("\0", 1));
  Write(".hidden.txt", "x");
  EXPECT_THAT(ErrorOf(Options()).message(),
              AllOf(HasSubstr("no text in data " + Options().path),
                    HasSubstr("skipped 1 of other kinds, 1 binary, 1 hidden")));
}

TEST_F(DatasetErrorsTest, TooLittleTextForOneSampleSaysHowMuchThereIs) {
  Write("a.txt", "abc");
  EXPECT_THAT(ErrorOf(Options(4)).message(),
              HasSubstr("has 4 tokens, too few for one sample of seq_len 4 + 1"));
  Write("a.txt", "");
  EXPECT_THAT(ErrorOf(Options(4)).message(), HasSubstr("has 0 tokens"));
}

TEST_F(DatasetErrorsTest, InvalidUtf8IsNamedWithItsOffset) {
  Write("a.txt", "latin\xe9 text");
  EXPECT_THAT(ErrorOf(Options()).message(),
              HasSubstr("/text/a.txt offset_bytes=5: not UTF-8 text"));
}

TEST_F(DatasetErrorsTest, InvalidUtf8DeepInALargeFileHasItsOffsetToo) {
  std::string text(1'500'000, 'x');
  text[1'200'000] = '\xff';
  Write("a.txt", text);
  EXPECT_THAT(ErrorOf(Options()).message(), HasSubstr("offset_bytes=1200000:"));
}

TEST_F(DatasetErrorsTest, TextThatEndsWithinACharacterIsInvalid) {
  Write("a.txt", "abc\xe2\x82");
  EXPECT_THAT(ErrorOf(Options()).message(), HasSubstr("a.txt offset_bytes=3:"));
}

TEST_F(DatasetErrorsTest, ABadJsonLineHasItsFileAndLine) {
  Write("a.jsonl", "{\"text\": \"good\"}\n\n{\"text\": }\n");
  EXPECT_THAT(ErrorOf(Options()).message(),
              AllOf(HasSubstr("a.jsonl:3: not valid JSON at byte 10")));
}

TEST_F(DatasetErrorsTest, AJsonLineWithoutTextSaysWhatIsExpected) {
  for (const char* line : {"{\"txt\": \"x\"}", "{\"text\": 3}", "[1]", "7"}) {
    Write("a.jsonl", line);
    EXPECT_THAT(ErrorOf(Options()).message(),
                HasSubstr("a.jsonl:1: not an object with a string \"text\""));
  }
}

TEST_F(DatasetErrorsTest, InvalidUtf8InAJsonLineIsRefused) {
  Write("a.jsonl", "{\"text\": \"\xff\"}");
  EXPECT_THAT(ErrorOf(Options()).message(), HasSubstr("a.jsonl:1: not valid JSON"));
}

TEST_F(DatasetErrorsTest, ACacheThatCannotBeMadeIsNamed) {
  Write("a.txt", "some text");
  DatasetOptions options = Options();
  options.cache_dir = options.path + "/a.txt/cache";
  EXPECT_THAT(ErrorOf(options).message(), HasSubstr(options.cache_dir));
}

TEST_F(DatasetErrorsTest, SomethingThatIsNoFileIsRefused) {
  DatasetOptions options = Options();
  options.path = "/dev/null";
  EXPECT_THAT(ErrorOf(options).message(), HasSubstr("/dev/null: not a regular file"));
}

TEST_F(DatasetErrorsTest, AFailedTokenisationLeavesNothingInTheCache) {
  Write("a.txt", "good");
  Write("b.txt", "\xff");
  EXPECT_FALSE(ErrorOf(Options()).ok());
  EXPECT_TRUE(std::filesystem::is_empty(root_ / "cache"));
}

}  // namespace
}  // namespace strata::engine
