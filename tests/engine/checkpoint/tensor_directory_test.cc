// A directory of tensors: what is written comes back, what is damaged is found and named, and
// what is half written is not there.
#include "engine/checkpoint/tensor_directory.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/aio/mounts.h"
#include "tests/engine/checkpoint/scratch.h"
#include "tests/fakes/child.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr uint64_t kBig = (9ULL << 20) + 64;  // three pieces
constexpr std::string_view kAbout = R"({"what":"a test"})";

class TensorDirectoryTest : public ScratchTest {
 protected:
  void SetUp() override {
    ScratchTest::SetUp();
    std::mt19937_64 random(7);
    for (uint64_t size : {uint64_t{64}, kBig, uint64_t{128}}) {
      std::string bytes(size, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random());
      contents_.push_back(std::move(bytes));
    }
    files_ = {{.name = "a.safetensors", .entries = {Entry("small", 0, 64), Entry("big", 64, kBig)}},
              {.name = "b.safetensors", .entries = {Entry("other", 0, 128)}}};
  }

  static SafetensorsEntry Entry(const std::string& name, uint64_t at, uint64_t size) {
    return {.name = name, .dtype = "U8", .shape = {size}, .offset_bytes = at, .size_bytes = size};
  }
  const std::string& Content(size_t file, size_t entry) const {
    return contents_[file * 2 + entry];
  }
  // Portions of an odd size, so that they and the pieces do not fall together.
  Status Write(const std::string& path) {
    return WriteTensorDirectory(path, files_, kAbout,
                                [&](size_t file, size_t entry, const TensorSink& sink) -> Status {
                                  std::string_view rest = Content(file, entry);
                                  while (!rest.empty()) {
                                    std::string_view now = rest.substr(0, 100'003);
                                    rest.remove_prefix(now.size());
                                    STRATA_RETURN_IF_ERROR(sink(std::as_bytes(std::span(now))));
                                    if (on_portion_) on_portion_();
                                  }
                                  return OkStatus();
                                });
  }
  void Flip(const std::string& name, uint64_t at) const {
    std::fstream file(Path("out/" + name), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
  }
  std::vector<std::string> Damage() const {
    std::vector<std::string> messages;
    EXPECT_EQ(CheckTensorDirectory(
                  Path("out"), [&](const Status& what) { messages.push_back(what.message()); },
                  [](uint64_t, uint64_t) {})
                  .message(),
              "");
    return messages;
  }
  // Of the whole of "big", in one read.
  Status ReadBig() const {
    Result<std::unique_ptr<TensorDirectory>> directory = TensorDirectory::Open(Path("out"), 2);
    STRATA_RETURN_IF_ERROR(directory.status());
    std::vector<std::byte> out(kBig);
    return (*directory)->Read(0, (*directory)->entries(0)[1], 0, out);
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename());
    return names;
  }

  std::vector<TensorFile> files_;
  std::vector<std::string> contents_;
  std::function<void()> on_portion_;
};

TEST_F(TensorDirectoryTest, GivesBackWhatWasWrittenAnyRangeOfIt) {
  ASSERT_EQ(Write(Path("out")).message(), "");
  std::unique_ptr<TensorDirectory> directory = OrDie(TensorDirectory::Open(Path("out"), 1));
  EXPECT_EQ(directory->manifest().about, kAbout);
  for (const auto& [first, size] : {std::pair<uint64_t, uint64_t>{0, kBig},
                                    {1, 1},
                                    {kBig - 5, 5},
                                    {(4ULL << 20) - 200, 1000}}) {
    std::string out(size, '\0');
    ASSERT_TRUE(
        directory->Read(0, directory->entries(0)[1], first, std::as_writable_bytes(std::span(out)))
            .ok());
    EXPECT_TRUE(out == Content(0, 1).substr(first, size)) << first;
  }
  EXPECT_THAT(Damage(), IsEmpty());
  // Any other reader of safetensors sees them, too.
  SafetensorsFile plain = OrDie(SafetensorsFile::Open(Path("out/a.safetensors")));
  ASSERT_EQ(plain.entries().size(), 2u);
  EXPECT_EQ(plain.entries()[1].name, "big");
}

TEST_F(TensorDirectoryTest, AFlippedBitIsFoundAndNamedWithFileTensorAndOffset) {
  ASSERT_EQ(Write(Path("out")).message(), "");
  const uint64_t data = std::filesystem::file_size(Path("out/a.safetensors")) - kBig - 64;
  Flip("a.safetensors", data + 64 + (5ULL << 20));  // in the second piece
  const auto names_it =
      HasSubstr(fmt::format("a.safetensors: tensor 'big' is not what was written, in its bytes "
                            "4194304 to 8388608 (of the file: {} to {})",
                            data + 64 + (4 << 20), data + 64 + (8 << 20)));
  EXPECT_THAT(Damage(), ElementsAre(names_it));
  EXPECT_EQ(ReadBig().code(), Code::kDataLoss);
  EXPECT_THAT(ReadBig().message(), names_it);
}

TEST_F(TensorDirectoryTest, AllThatIsDamagedIsTold) {
  ASSERT_EQ(Write(Path("out")).message(), "");
  const uint64_t data = std::filesystem::file_size(Path("out/a.safetensors")) - kBig - 64;
  Flip("a.safetensors", data);
  Flip("a.safetensors", data + 64 + (9 << 20));
  Flip("b.safetensors", 20);
  EXPECT_THAT(Damage(),
              ElementsAre(HasSubstr("a.safetensors: tensor 'small' is not what was written"),
                          HasSubstr("a.safetensors: tensor 'big' is not what was written"),
                          HasSubstr("b.safetensors: its header, bytes 0 to 104")));
  EXPECT_THAT(ReadBig().message(), HasSubstr("b.safetensors: its header"));
}

TEST_F(TensorDirectoryTest, AFileThatIsCutOffOrMissingIsNamed) {
  ASSERT_EQ(Write(Path("out")).message(), "");
  std::filesystem::resize_file(Path("out/a.safetensors"), 1000);
  std::filesystem::remove(Path("out/b.safetensors"));
  EXPECT_THAT(Damage(), ElementsAre(AllOf(HasSubstr("a.safetensors"), HasSubstr("1000 bytes")),
                                    AllOf(HasSubstr("b.safetensors"), HasSubstr("missing"))));
  EXPECT_EQ(ReadBig().code(), Code::kDataLoss);
}

TEST_F(TensorDirectoryTest, ADamagedManifestIsNoManifest) {
  ASSERT_EQ(Write(Path("out")).message(), "");
  const std::string text = ReadFile(Path("out/manifest.json"));
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"a test", "b test"},
                                 {"\"files\"", "\"piles\""},
                                 {"{", ""},
                                 {"\"bytes\": 128", "\"bytes\": 129"}}) {
    std::string changed = text;
    const size_t at = changed.find(from);
    if (at == std::string::npos) continue;
    WriteFile("out/manifest.json", changed.replace(at, from.size(), to));
    const Status status = ReadTensorManifest(Path("out")).status();
    EXPECT_EQ(status.code(), Code::kDataLoss) << to;
    EXPECT_THAT(status.message(), HasSubstr("manifest.json is damaged")) << to;
  }
  // Spaces are nobody's data.
  WriteFile("out/manifest.json", nlohmann::ordered_json::parse(text).dump(4));
  EXPECT_TRUE(ReadTensorManifest(Path("out")).ok());
}

TEST_F(TensorDirectoryTest, WhatStandsThereStays) {
  std::filesystem::create_directory(Path("out"));
  WriteFile("out/mine", "text");
  EXPECT_EQ(Write(Path("out")).code(), Code::kAlreadyExists);
  EXPECT_THAT(Names(), ElementsAre("out"));
  EXPECT_EQ(ReadFile(Path("out/mine")), "text");
}

// Killed at every portion in turn, until one is not.
TEST_F(TensorDirectoryTest, AKilledWriterLeavesNothingThatCountsAndTheNextOneSucceeds) {
  uint64_t kills = 0;
  for (uint64_t moment = 0;; moment += 13) {
    fakes::Child child([&](const fakes::Child::Report&) {
      uint64_t portions = 0;
      on_portion_ = [&] {
        if (portions++ == moment) kill(getpid(), SIGKILL);
      };
      if (!Write(Path("out")).ok()) _exit(1);
    });
    while (child.Next()) {
    }
    if (child.EndedWell()) break;
    ++kills;
    EXPECT_FALSE(HoldsTensorDirectory(Path("out")));
    for (const std::string& name : Names()) EXPECT_THAT(name, StartsWith("out.partial-"));
  }
  EXPECT_GT(kills, 5u);
  EXPECT_THAT(Damage(), IsEmpty());
}

TEST_F(TensorDirectoryTest, SpaceThatIsNotThereIsMissedBeforeAnythingIsWritten) {
  STRATA_MOUNT_OR_SKIP(mount, TemporaryMount::Tmpfs(Path("small"), "5m"));
  bool wrote = false;
  on_portion_ = [&] { wrote = true; };
  const Status status = Write(mount->File("out"));
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("it takes 13"), HasSubstr("5 MiB left")));
  EXPECT_FALSE(wrote);
  EXPECT_TRUE(std::filesystem::is_empty(mount->at()));
}

}  // namespace
}  // namespace strata::engine
