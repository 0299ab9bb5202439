#include "engine/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <thread>

#include "engine/data/internal/token_file.h"
#include "tests/engine/data/corpus_directory.h"

namespace strata::engine {
namespace {

class DatasetTest : public CorpusDirectory {
 protected:
  struct Identity {
    ino_t inode;
    int64_t modified_ns;
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  Identity TokenFileIdentity() const {
    struct stat info = {};
    EXPECT_EQ(stat(TokenFilePath().c_str(), &info), 0);
    return {info.st_ino, info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
  }
  size_t NumTokenFiles() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(root_ / "cache"),
                                             std::filesystem::directory_iterator()));
  }
};

TEST_F(DatasetTest, FilesAreReadInSortedOrderEachADocument) {
  Write("b.md", "two");
  Write("a.txt", "one");
  Write("sub/c.cc", "three");
  Write("empty.txt", "");
  EXPECT_EQ(ReadText(), "one|two|three|");
}

TEST_F(DatasetTest, HiddenBinaryExcludedAndUnknownFilesAreLeftOut) {
  Write("a.txt", "text");
  Write("LICENSE", "free");
  Write(".hidden.txt", "x");
  Write(".git/a.txt", "x");
  Write("build/a.txt", "x");
  Write("build-debug/a.txt", "x");
  Write("runs/a/metrics.jsonl", "{}");
  Write("output/a.txt", "x");
  Write("experiment/run_id", "experiment-0123");
  Write("experiment/metrics.jsonl", "{}");
  Write("picture.png", "x");
  Write("nul.txt", std::string_view("a\0b", 3));
  DatasetOptions options = Options(1);
  options.exclude = {options.path + "/output"};
  EXPECT_EQ(OpenOrDie(options)->num_tokens(), 10u);  // "free|text|"
}

TEST_F(DatasetTest, LinksToFilesAreFollowedAndLinksThatLeadNowhereAreNot) {
  Write("a.txt", "text");
  std::filesystem::create_symlink("a.txt", root_ / "text/b.txt");
  std::filesystem::create_symlink("gone", root_ / "text/c.txt");
  std::filesystem::create_directory_symlink(".", root_ / "text/loop");
  EXPECT_EQ(ReadText(), "text|text|");
}

TEST_F(DatasetTest, AFileGivenByNameIsReadWhateverItsExtension) {
  Write("corpus.data", "some text");
  DatasetOptions options = Options(1);
  options.path += "/corpus.data";
  EXPECT_EQ(OpenOrDie(options)->num_tokens(), 10u);
}

TEST_F(DatasetTest, JsonLinesAreDocuments) {
  Write("a.jsonl",
        "{\"text\": \"one\", \"id\": 1}\n\n{\"id\": 2, \"text\": \"two\\u00e9\"}\r\n"
        "{\"text\": \"\"}\n{\"text\": \"three\"}");
  EXPECT_EQ(ReadText(), "one|two\xc3\xa9|three|");
}

TEST_F(DatasetTest, TextLongerThanAPieceIsReadWholeEvenWhereACharacterIsCut) {
  std::string text = "x";  // so that every two-byte character straddles an even offset
  while (text.size() < 2'500'000) text += "\xc3\xa9";
  Write("a.txt", text);
  EXPECT_EQ(ReadText(), text + "|");
}

TEST_F(DatasetTest, JsonLinesLongerThanAPieceAreReadWhole) {
  std::string text(1'500'000, 'x');
  Write("a.jsonl", "{\"text\": \"" + text + "\"}\n{\"text\": \"end\"}\n");
  EXPECT_EQ(ReadText(), text + "|end|");
}

TEST_F(DatasetTest, TargetsAreTheInputsShiftedByOne) {
  Write("a.txt", "abcdefghi");  // ten tokens with the end: two samples of four, one token over
  auto dataset = OpenOrDie(Options(4));
  ASSERT_EQ(dataset->num_samples(), 2u);
  std::vector<TokenSample> samples = {SampleOf(*dataset, 4, 0), SampleOf(*dataset, 4, 1)};
  TokenSample first = {{'a', 'b', 'c', 'd'}, {'b', 'c', 'd', 'e'}};
  TokenSample second = {{'e', 'f', 'g', 'h'}, {'f', 'g', 'h', 'i'}};
  EXPECT_THAT(samples, testing::UnorderedElementsAre(first, second));
}

TEST_F(DatasetTest, OneTokenMoreThanTheSequenceIsEnough) {
  Write("a.txt", "abcd");
  EXPECT_EQ(OpenOrDie(Options(4))->num_samples(), 1u);
}

TEST_F(DatasetTest, EachEpochHasEverySampleOnceInAnotherOrder) {
  std::string text(401, ' ');
  std::iota(text.begin(), text.end(), 0);
  std::ranges::transform(text, text.begin(), [](char c) { return static_cast<char>(c & 0x7f); });
  std::replace(text.begin(), text.end(), '\0', 'z');
  Write("a.txt", text);
  auto dataset = OpenOrDie(Options(4));
  uint64_t num_samples = dataset->num_samples();
  auto epoch = [&](uint64_t number) {
    std::vector<std::vector<int32_t>> inputs;
    for (uint64_t i = 0; i < num_samples; ++i)
      inputs.push_back(SampleOf(*dataset, 4, number * num_samples + i).inputs);
    return inputs;
  };
  auto first = epoch(0), second = epoch(1);
  EXPECT_NE(first, second);
  EXPECT_THAT(first, testing::UnorderedElementsAreArray(second));
}

TEST_F(DatasetTest, SamplesDoNotDependOnWhoAsksWhenAndHowOften) {
  Write("a.txt", std::string(1000, 'x') + std::string(1000, 'y') + std::string(1000, 'z'));
  std::map<uint64_t, TokenSample> expected;
  {
    auto dataset = OpenOrDie(Options(7));
    for (uint64_t i = 0; i < 900; ++i) expected[i] = SampleOf(*dataset, 7, i);
  }
  auto reopened = OpenOrDie(Options(7));
  auto check_from = [&](uint64_t start) {
    for (uint64_t i = 0; i < 900; ++i) {
      uint64_t index = (start + i * 541) % 900;
      EXPECT_EQ(SampleOf(*reopened, 7, index), expected[index]);
    }
  };
  std::thread other(check_from, 450);
  check_from(0);
  other.join();
}

TEST_F(DatasetTest, TheSeedChangesTheOrderAndNotTheFingerprint) {
  Write("a.txt", std::string(500, 'x') + std::string(500, 'y'));
  DatasetOptions options = Options(4);
  auto one = OpenOrDie(options);
  options.seed = 2;
  auto two = OpenOrDie(options);
  EXPECT_EQ(one->fingerprint(), two->fingerprint());
  int num_equal = 0;
  for (uint64_t i = 0; i < 100; ++i)
    num_equal += SampleOf(*one, 4, i) == SampleOf(*two, 4, i) ? 1 : 0;
  EXPECT_LT(num_equal, 90);  // about half are equal by chance: x against x, y against y
}

TEST_F(DatasetTest, ACachedTokenFileIsUsedAsItIs) {
  Write("a.txt", "some text");
  OpenOrDie(Options());
  Identity before = TokenFileIdentity();
  int num_progress_calls = 0;
  DatasetOptions options = Options();
  options.on_progress = [&](uint64_t, uint64_t) { ++num_progress_calls; };
  OpenOrDie(options);
  EXPECT_EQ(TokenFileIdentity(), before);
  EXPECT_EQ(num_progress_calls, 0);
}

TEST_F(DatasetTest, ChangedContentNameOrSetOfFilesIsTokenisedAnew) {
  Write("a.txt", "some text");
  uint64_t fingerprint = OpenOrDie(Options())->fingerprint();
  Write("a.txt", "same size");
  EXPECT_NE(OpenOrDie(Options())->fingerprint(), fingerprint);
  EXPECT_EQ(NumTokenFiles(), 2u);
  std::filesystem::rename(root_ / "text/a.txt", root_ / "text/b.txt");
  OpenOrDie(Options());
  EXPECT_EQ(NumTokenFiles(), 3u);
  Write("c.txt", "more");
  OpenOrDie(Options());
  EXPECT_EQ(NumTokenFiles(), 4u);
}

TEST_F(DatasetTest, TheFingerprintDoesNotDependOnWhereTheCorpusIs) {
  Write("a.txt", "some text");
  uint64_t fingerprint = OpenOrDie(Options())->fingerprint();
  DatasetOptions options = Options();
  std::filesystem::rename(root_ / "text", root_ / "moved");
  options.path = (root_ / "moved/").string();
  EXPECT_EQ(OpenOrDie(options)->fingerprint(), fingerprint);
  EXPECT_EQ(NumTokenFiles(), 1u);
}

TEST_F(DatasetTest, ADamagedTokenFileIsMadeAnew) {
  Write("a.txt", "some text");
  uint64_t fingerprint = OpenOrDie(Options())->fingerprint();
  std::filesystem::path path = TokenFilePath();
  uint64_t size = std::filesystem::file_size(path);
  for (uint64_t offset : {0u, 20u, 4096u + 3u}) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put('\x7f');
    file.close();
    EXPECT_EQ(OpenOrDie(Options())->fingerprint(), fingerprint);
  }
  for (uint64_t cut : {size - 1, uint64_t{4096}, uint64_t{10}, uint64_t{0}}) {
    std::filesystem::resize_file(path, cut);
    EXPECT_EQ(OpenOrDie(Options())->fingerprint(), fingerprint);
    EXPECT_EQ(std::filesystem::file_size(path), size);
  }
  EXPECT_EQ(NumTokenFiles(), 1u);  // and nothing temporary
}

TEST_F(DatasetTest, TheCacheIsNotItsOwnData) {
  Write("a.txt", "some text");
  DatasetOptions options = Options();
  options.cache_dir = options.path + "/cache";
  uint64_t fingerprint = OpenOrDie(options)->fingerprint();
  std::ofstream(options.cache_dir + "/notes.txt") << "x";
  EXPECT_EQ(OpenOrDie(options)->fingerprint(), fingerprint);
}

TEST_F(DatasetTest, WhatAKilledTokenisationLeftIsRemovedAndOneUnderWayIsNot) {
  Write("a.txt", "some text");
  std::string cache_dir = Options().cache_dir;
  auto writer = data_internal::TokenFileWriter::Create(cache_dir + "/01.tokens", 1);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  std::ofstream(cache_dir + "/02.tokens.tmp-0123") << "x";  // its writer is gone, and its lock
  std::ofstream(cache_dir + "/notes.txt") << "x";
  OpenOrDie(Options());
  EXPECT_FALSE(std::filesystem::exists(cache_dir + "/02.tokens.tmp-0123"));
  EXPECT_TRUE(std::filesystem::exists(cache_dir + "/notes.txt"));
  EXPECT_TRUE((std::move(*writer).Finish()).ok());
  EXPECT_TRUE(std::filesystem::exists(cache_dir + "/01.tokens"));
}

TEST_F(DatasetTest, ProgressEndsWithAllBytes) {
  Write("a.txt", std::string(3'000'000, 'x'));
  Write("b.txt", "more");
  DatasetOptions options = Options();
  std::vector<uint64_t> done;
  options.on_progress = [&](uint64_t done_bytes, uint64_t total_bytes) {
    EXPECT_EQ(total_bytes, 3'000'004u);
    done.push_back(done_bytes);
  };
  OpenOrDie(options);
  EXPECT_TRUE(std::ranges::is_sorted(done));
  EXPECT_GE(done.size(), 4u);
  EXPECT_EQ(done.back(), 3'000'004u);
}

}  // namespace
}  // namespace strata::engine
