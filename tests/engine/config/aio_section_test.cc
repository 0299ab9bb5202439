#include "engine/config/aio_section.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "aio/base/units.h"
#include "aio/file.h"
#include "tests/engine/config/minimal_config.h"

namespace strata::engine {
namespace {

using testing::HasSubstr;

constexpr AioSection kMeasured = {.backend = aio::IoBackend::kPosix,
                                  .block_size_bytes = 2_MiB,
                                  .queue_depth = 8,
                                  .thread_count = 2};

std::string Edited(std::string_view text, const AioSection& section = kMeasured) {
  Result<std::string> edited = WithAioSection(text, "run.toml", section, "by strata io tune");
  return edited.ok() ? *edited : "error: " + edited.status().message();
}

TEST(AioSectionTest, ReplacesValuesAndLeavesEverythingElseAsItWas) {
  EXPECT_EQ(Edited("# mine\n"
                   "x = 1\n"
                   "\n"
                   "  [ aio ]   # fast disk\n"
                   "queue_depth = 64     # from the wiki\n"
                   "\tblock_size='512KiB'\n"
                   "# verify = \"off\"\n"
                   "verify = \"sampled\"\n"
                   "thread_count = 0x1\n"
                   "backend = \"\"\"io_uring\"\"\" # why\n"
                   "[memory]\n"
                   "host = \"1GiB\"   \n"),
            "# mine\n"
            "x = 1\n"
            "\n"
            "  [ aio ]   # fast disk\n"
            "queue_depth = 8     # from the wiki\n"
            "\tblock_size=\"2MiB\"\n"
            "# verify = \"off\"\n"
            "verify = \"sampled\"\n"
            "thread_count = 2\n"
            "backend = \"posix\" # why\n"
            "sqpoll = false\n"
            "[memory]\n"
            "host = \"1GiB\"   \n");
}

TEST(AioSectionTest, AddsMissingKeysToTheSectionWithItsIndentAndLineEnds) {
  EXPECT_EQ(Edited("[aio]\r\n"
                   "  queue_depth = 64 # deep\r\n"
                   "\r\n"
                   "# about memory\r\n"
                   "[memory]\r\n"),
            "[aio]\r\n"
            "  queue_depth = 8 # deep\r\n"
            "  backend = \"posix\"\r\n"
            "  block_size = \"2MiB\"\r\n"
            "  thread_count = 2\r\n"
            "  sqpoll = false\r\n"
            "\r\n"
            "# about memory\r\n"
            "[memory]\r\n");
  EXPECT_EQ(Edited("[aio] # empty\n[memory]\n"),
            "[aio] # empty\n"
            "backend = \"posix\"\nblock_size = \"2MiB\"\nqueue_depth = 8\nthread_count = 2\n"
            "sqpoll = false\n"
            "[memory]\n");
  EXPECT_EQ(Edited("[aio]"),
            "[aio]\n"
            "backend = \"posix\"\nblock_size = \"2MiB\"\nqueue_depth = 8\nthread_count = 2\n"
            "sqpoll = false\n");
}

TEST(AioSectionTest, AppendsTheSectionWithItsCommentWhereThereIsNone) {
  const std::string section =
      "# by strata io tune\n[aio]\n"
      "backend = \"posix\"\nblock_size = \"2MiB\"\nqueue_depth = 8\nthread_count = 2\n"
      "sqpoll = false\n";
  EXPECT_EQ(Edited("x = \"[aio]\"\n"), "x = \"[aio]\"\n\n" + section);
  EXPECT_EQ(Edited("x = 1"), "x = 1\n\n" + section);
  EXPECT_EQ(Edited(""), section);
  EXPECT_EQ(Edited("# [aio]\n'''aio''' = 1").substr(0, 6), "error:");
  EXPECT_EQ(AioSectionText(kMeasured, "by strata io tune"), section);
}

TEST(AioSectionTest, ANumberStaysANumberAndAnAliasAnAlias) {
  EXPECT_EQ(Edited("[aio]\nbackend=\"auto\"\nblock_size = 1_048_576 # bytes\n"
                   "intra_op_parallelism = 1\nqueue_depth=1\n"),
            "[aio]\nbackend=\"posix\"\nblock_size = 2097152 # bytes\n"
            "intra_op_parallelism = 2\nqueue_depth=8\nsqpoll = false\n");
  EXPECT_THAT(Edited("[aio]\nintra_op_parallelism = 1\nthread_count = 1\n"),
              HasSubstr("run.toml: [aio] has both thread_count and intra_op_parallelism"));
}

TEST(AioSectionTest, EditsInlineTables) {
  EXPECT_EQ(
      Edited("aio = { queue_depth = 64, verify = \"off\" } # one line\n[memory]\n"),
      "aio = { queue_depth = 8, verify = \"off\", backend = \"posix\", block_size = \"2MiB\", "
      "thread_count = 2, sqpoll = false } # one line\n[memory]\n");
  EXPECT_EQ(Edited("aio={}\n"),
            "aio={ backend = \"posix\", block_size = \"2MiB\", queue_depth = 8, "
            "thread_count = 2, sqpoll = false }\n");
}

TEST(AioSectionTest, EditsDottedKeys) {
  EXPECT_EQ(Edited("aio.queue_depth = 64 # deep\naio . 'block_size' = 1\nx = 1\n[memory]\n"),
            "aio.queue_depth = 8 # deep\naio . 'block_size' = 2097152\n"
            "aio.backend = \"posix\"\naio.thread_count = 2\naio.sqpoll = false\nx = 1\n[memory]\n");
}

TEST(AioSectionTest, CountsCharactersNotBytes) {
  EXPECT_EQ(Edited("\xef\xbb\xbf"
                   "aio = { \"gr\xc3\xb6\xc3\x9f\x65\" = '\xe2\x82\xac', "
                   "queue_depth = 1, backend = \"auto\", block_size = 1, thread_count = 1, sqpoll "
                   "= true }\n"),
            "\xef\xbb\xbf"
            "aio = { \"gr\xc3\xb6\xc3\x9f\x65\" = '\xe2\x82\xac', "
            "queue_depth = 8, backend = \"posix\", block_size = 2097152, thread_count = 2, sqpoll "
            "= false }\n");
}

TEST(AioSectionTest, RefusesWhatItCannotEditAndSaysWhatToDo) {
  EXPECT_THAT(Edited("aio = 3\n"), HasSubstr("run.toml: aio is not a section"));
  EXPECT_THAT(Edited("[[aio]]\nqueue_depth = 1\n"), HasSubstr("aio is not a section"));
  EXPECT_THAT(Edited("[aio]\nqueue_depth = [1]\n"),
              HasSubstr("[aio] queue_depth is neither a number nor a text: remove it"));
  EXPECT_THAT(Edited("[aio\n"), HasSubstr("run.toml:1:5: not valid TOML"));
}

TEST(AioSectionTest, ATrainingRunReadsWhatWasWritten) {
  std::string text = Edited(std::string(kMinimalConfig) + "\n[aio]\nverify = \"off\"\n");
  Result<RunConfig> config = ParseRunConfig(text, "/etc/strata/run.toml", {});
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->aio.backend, aio::IoBackend::kPosix);
  EXPECT_EQ(config->aio.block_size_bytes, 2_MiB);
  EXPECT_EQ(config->aio.queue_depth, 8u);
  EXPECT_EQ(config->aio.thread_count, 2u);
  EXPECT_FALSE(config->aio.sqpoll);
  EXPECT_EQ(config->aio.verify, tiering::Verify::kOff);
}

TEST(AioSectionTest, EveryShippedConfigKeepsAllItsOtherLines) {
  int configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(STRATA_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".toml") continue;
    ++configs;
    Result<std::string> text = aio::ReadSmallFile(entry.path().string(), 1_MiB);
    ASSERT_TRUE(text.ok());
    std::string edited = Edited(*text);
    // Doing it twice changes nothing more.
    EXPECT_EQ(Edited(edited), edited) << entry.path();
    bool has_section = text->find("[aio]") != std::string::npos;
    EXPECT_TRUE(has_section || edited.starts_with(*text)) << entry.path();
  }
  EXPECT_GT(configs, 2);
}

class AioSectionFileTest : public testing::Test {
 protected:
  AioSectionFileTest() : directory_(testing::TempDir() + "strata-section-XXXXXX") {
    STRATA_CHECK(mkdtemp(directory_.data()) != nullptr);
  }
  ~AioSectionFileTest() override { std::filesystem::remove_all(directory_); }

  std::string Read(const std::string& path) {
    Result<std::string> text = aio::ReadSmallFile(path, 1_MiB);
    return text.ok() ? *text : text.status().message();
  }

  std::string directory_;
};

TEST_F(AioSectionFileTest, ANewFileIsTheSectionAndWhereItsNumbersComeFrom) {
  std::string path = directory_ + "/new.toml";
  ASSERT_TRUE(WriteAioSection(path, kMeasured, "measured today\nwith care").ok());
  EXPECT_EQ(Read(path), AioSectionText(kMeasured, "measured today\nwith care"));
  EXPECT_THAT(Read(path), testing::StartsWith("# measured today\n# with care\n[aio]\n"));
}

TEST_F(AioSectionFileTest, ALinkStaysALinkAndModesStay) {
  std::string path = directory_ + "/real.toml", link = directory_ + "/link.toml";
  std::ofstream(path) << "[aio]\nqueue_depth = 1\n";
  std::filesystem::permissions(
      path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::create_symlink("real.toml", link);
  ASSERT_TRUE(WriteAioSection(link, kMeasured, "").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_THAT(Read(path), HasSubstr("queue_depth = 8\n"));
  struct stat after = {};
  ASSERT_EQ(stat(path.c_str(), &after), 0);
  EXPECT_EQ(after.st_mode & 07777, 0600u);
}

TEST_F(AioSectionFileTest, AFileThatCannotBeEditedStaysAsItWas) {
  std::string path = directory_ + "/broken.toml";
  std::ofstream(path) << "[aio\n";
  EXPECT_THAT(WriteAioSection(path, kMeasured, "").message(), HasSubstr("not valid TOML"));
  EXPECT_EQ(Read(path), "[aio\n");
  EXPECT_THAT(CheckAioSectionFile(path).message(), HasSubstr("not valid TOML"));
  EXPECT_TRUE(CheckAioSectionFile(directory_ + "/new.toml").ok());
  EXPECT_EQ(CheckAioSectionFile(directory_ + "/none/run.toml").code(), Code::kNotFound);
  EXPECT_EQ(WriteAioSection(directory_ + "/none/run.toml", kMeasured, "").code(), Code::kNotFound);
}

}  // namespace
}  // namespace strata::engine
