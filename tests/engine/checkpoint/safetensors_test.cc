#include "engine/checkpoint/safetensors.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <limits>

#include "engine/checkpoint/float16.h"
#include "tests/engine/checkpoint/scratch.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

using SafetensorsTest = ScratchTest;

constexpr char kTwoTensors[] =
    R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},)"
    R"( "b": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [8, 14]}})";

std::string TwoTensors() { return SafetensorsBytes(kTwoTensors, std::string(14, '\x11')); }

const SafetensorsEntry& Find(const SafetensorsFile& file, std::string_view name) {
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.name == name) return entry;
  }
  ADD_FAILURE() << "no tensor " << name;
  return file.entries().front();
}

std::vector<float> ReadAll(const SafetensorsFile& file, std::string_view name) {
  const SafetensorsEntry& entry = Find(file, name);
  uint64_t num_elements = 1;
  for (uint64_t extent : entry.shape) num_elements *= extent;
  std::vector<float> values(num_elements);
  Status status = file.Read(entry, 0, values);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return values;
}

// The header stands before `data_bytes` of data.
Status HeaderError(const std::string& header, uint64_t data_bytes) {
  return ParseSafetensorsHeader(header, 8 + header.size() + data_bytes, "w.safetensors").status();
}

std::string OneTensor(const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
  return R"({"t": {"dtype": ")" + dtype + R"(", "shape": )" + shape + R"(, "data_offsets": )" +
         offsets + "}}";
}

// small.safetensors is made by tests/golden/make_safetensors.py, with Hugging Face's library.
TEST(SafetensorsGoldenTest, ReadsWhatThePythonLibraryWrote) {
  SafetensorsFile file =
      OrDie(SafetensorsFile::Open(STRATA_SOURCE_DIR "/tests/golden/small.safetensors"));
  EXPECT_EQ(file.entries().size(), 7u);
  EXPECT_EQ(Find(file, "i64").dtype, "I64");
  EXPECT_EQ(Find(file, "f16").shape, (std::vector<uint64_t>{20, 30}));
  EXPECT_EQ(ReadAll(file, "scalar"), std::vector<float>{2.5f});
  EXPECT_EQ(ReadAll(file, "empty"), std::vector<float>{});
  std::vector<float> f32 = ReadAll(file, "f32"), f16 = ReadAll(file, "f16"),
                     bf16 = ReadAll(file, "bf16");
  for (int i = 0; i < 12; ++i) EXPECT_EQ(f32[i], static_cast<float>(i) / 7) << i;
  for (int i = 0; i < 600; ++i) EXPECT_EQ(f16[i], static_cast<float>(i - 300) / 8) << i;
  for (int i = 0; i < 256; ++i) EXPECT_EQ(bf16[i], static_cast<float>(i - 128) / 4) << i;
  std::vector<float> bits = ReadAll(file, "f16_bits");
  for (uint32_t i = 0; i < bits.size(); ++i)
    EXPECT_EQ(std::bit_cast<uint32_t>(bits[i]),
              std::bit_cast<uint32_t>(FromF16(static_cast<uint16_t>(127 * i))));
}

TEST_F(SafetensorsTest, ATensorLargerThanTheBufferIsReadInAnySlice) {
  std::vector<uint16_t> halves(100'000);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i * 7 % 0x7f80);
  SafetensorsFile file = OrDie(SafetensorsFile::Open(WriteFile(
      "w",
      SafetensorsBytes(OneTensor("BF16", "[100000]", "[0,200000]"), BytesOf<uint16_t>(halves)))));
  for (size_t first : {0u, 1u, 16383u, 40000u, 99999u}) {
    std::vector<float> slice(std::min<size_t>(50'001, halves.size() - first));
    ASSERT_TRUE(file.Read(file.entries()[0], first, slice).ok());
    for (size_t i = 0; i < slice.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(slice[i]), uint32_t{halves[first + i]} << 16);
  }
}

TEST_F(SafetensorsTest, EntriesComeInTheOrderOfTheirData) {
  std::string header = R"({"__metadata__": {"format": "pt"},
    "a": {"dtype": "U8", "shape": [3], "data_offsets": [2, 5]},
    "z": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}})";
  std::vector<SafetensorsEntry> entries =
      OrDie(ParseSafetensorsHeader(header, 8 + header.size() + 5, "w"));
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "z");
  EXPECT_EQ(entries[1].name, "a");
}

TEST_F(SafetensorsTest, AHeaderOfOursIsReadBackAndAlignsTheData) {
  std::vector<SafetensorsEntry> entries = {
      {.name = "a \"quoted\" name", .dtype = "F32", .shape = {2, 3}, .size_bytes = 24},
      {.name = "b", .dtype = "BF16", .shape = {5}, .offset_bytes = 24, .size_bytes = 10}};
  std::string header = MakeSafetensorsHeader(entries);
  EXPECT_EQ(header.size() % 8, 0u);
  SafetensorsFile file =
      OrDie(SafetensorsFile::Open(WriteFile("w", header + std::string(34, 'x'))));
  ASSERT_EQ(file.entries().size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(file.entries()[i].name, entries[i].name);
    EXPECT_EQ(file.entries()[i].dtype, entries[i].dtype);
    EXPECT_EQ(file.entries()[i].shape, entries[i].shape);
    EXPECT_EQ(file.entries()[i].offset_bytes, entries[i].offset_bytes);
  }
}

TEST(SafetensorsHeaderTest, ADuplicateTensorIsNamedWithItsPlace) {
  std::string header = R"({"t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "t")";
  EXPECT_EQ(HeaderError(header + ": 1}", 1).ToString(),
            "invalid argument: w.safetensors: header: line 1 column 64: duplicate key 't'");
}

TEST(SafetensorsHeaderTest, OffsetsThatOverlapLeaveGapsOrRunBackwardsAreDataLoss) {
  auto two = [](const std::string& first, const std::string& second) {
    return R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": )" + first +
           R"(}, "b": {"dtype": "U8", "shape": [4], "data_offsets": )" + second + "}}";
  };
  Status overlap = HeaderError(two("[0, 4]", "[3, 7]"), 7);
  EXPECT_EQ(overlap.code(), Code::kDataLoss);
  EXPECT_EQ(overlap.message(),
            "w.safetensors: tensor 'b': its data starts at 3, but the data before it ends at 4: "
            "they overlap");
  EXPECT_THAT(HeaderError(two("[0, 4]", "[5, 9]"), 9).message(),
              AllOf(HasSubstr("tensor 'b'"), HasSubstr("there is a gap")));
  EXPECT_THAT(HeaderError(two("[1, 5]", "[5, 9]"), 9).message(), HasSubstr("there is a gap"));
  EXPECT_THAT(HeaderError(two("[4, 0]", "[4, 8]"), 8).message(),
              HasSubstr("tensor 'a': its data ends at 0 before 4"));
}

TEST(SafetensorsHeaderTest, ASizeThatIsNotThatOfTheShapeIsDataLoss) {
  Status status = HeaderError(OneTensor("F32", "[2, 3]", "[0, 20]"), 20);
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(),
              HasSubstr("tensor 't': its data has 20 bytes, which is not F32 of shape [2, 3]"));
}

TEST(SafetensorsHeaderTest, AShapeWhoseSizeOverflowsIsDataLoss) {
  for (const char* shape :
       {"[4294967296, 4294967296]", "[18446744073709551615]", "[4611686018427387904, 4]"})
    EXPECT_EQ(HeaderError(OneTensor("F32", shape, "[0, 0]"), 0).code(), Code::kDataLoss) << shape;
  EXPECT_EQ(
      HeaderError(OneTensor("U8", "[18446744073709551615]", "[0, 18446744073709551615]"), 9).code(),
      Code::kDataLoss);
}

TEST(SafetensorsHeaderTest, WhatIsNotATensorIsNamed) {
  for (const char* bad :
       {R"({"t": 1})", R"({"t": {"dtype": "U8", "shape": [1]}})",
        R"({"t": {"dtype": 1, "shape": [1], "data_offsets": [0, 1]}})",
        R"({"t": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}})",
        R"({"t": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}})",
        R"({"t": {"dtype": "U8", "shape": 1, "data_offsets": [0, 1]}})",
        R"({"t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}})",
        R"({"t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "more": 1}})"}) {
    Status status = HeaderError(bad, 1);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << bad;
    EXPECT_THAT(status.message(), StartsWith("w.safetensors: tensor 't'")) << bad;
  }
  EXPECT_THAT(HeaderError("[]", 0).message(), HasSubstr("not a JSON object"));
}

TEST(SafetensorsHeaderTest, DTypesWeDoNotKnowAreLeftToWhoNeedsTheTensor) {
  EXPECT_TRUE(HeaderError(OneTensor("F4", "[3]", "[0, 2]"), 2).ok());
}

TEST_F(SafetensorsTest, ATruncatedFileSaysWhatItShouldHaveAndWhatItHas) {
  std::string whole = TwoTensors();
  std::string path = WriteFile("w.safetensors", whole.substr(0, whole.size() - 3));
  Status status = SafetensorsFile::Open(path).status();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(),
              AllOf(StartsWith(path + ": the file is cut off"), HasSubstr("describes 14 bytes"),
                    HasSubstr("after the header are 11")));
}

TEST_F(SafetensorsTest, AFileThatHasMoreThanItsHeaderSaysIsDataLoss) {
  EXPECT_THAT(SafetensorsFile::Open(WriteFile("w", TwoTensors() + "x")).status().message(),
              HasSubstr("the file is too long"));
}

TEST_F(SafetensorsTest, AnotherKindOfFileIsRecognised) {
  std::string zip = "PK\x03\x04 and so on, as a pytorch_model.bin starts";
  Status status = SafetensorsFile::Open(WriteFile("w", zip)).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("not a safetensors file"));
}

TEST_F(SafetensorsTest, AFileThatIsNotThereIsNotFound) {
  EXPECT_EQ(SafetensorsFile::Open(Path("w")).status().code(), Code::kNotFound);
}

TEST_F(SafetensorsTest, AFileThatShrinksAfterItWasOpenedIsDataLoss) {
  std::string path = WriteFile("w", TwoTensors());
  SafetensorsFile file = OrDie(SafetensorsFile::Open(path));
  std::filesystem::resize_file(path, TwoTensors().size() - 14);
  std::vector<float> values(2);
  Status status = file.Read(file.entries()[0], 0, values);
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("read " + path));
}

TEST_F(SafetensorsTest, EveryTruncationIsAnErrorThatNamesTheFile) {
  std::string whole = TwoTensors();
  for (size_t length = 0; length < whole.size(); ++length) {
    Status status = SafetensorsFile::Open(WriteFile("w", whole.substr(0, length))).status();
    ASSERT_FALSE(status.ok()) << length;
    ASSERT_THAT(status.message(), StartsWith(Path("w"))) << length;
  }
}

// For the sanitizers: whatever the damage, it is an error or a file that can be read.
TEST_F(SafetensorsTest, FlippedBytesNeverCrash) {
  std::string whole = TwoTensors();
  uint32_t state = 1;
  auto random = [&state](size_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % below;
  };
  for (int trial = 0; trial < 1000; ++trial) {
    std::string damaged = whole;
    for (size_t flips = 1 + random(3); flips > 0; --flips)
      damaged[random(damaged.size())] = static_cast<char>(random(256));
    Result<SafetensorsFile> file = SafetensorsFile::Open(WriteFile("w", damaged));
    if (!file.ok()) continue;
    for (const SafetensorsEntry& entry : file->entries()) {
      std::optional<DType> dtype = DTypeOfSafetensorsName(entry.dtype);
      if (!dtype) continue;
      std::vector<float> values(entry.size_bytes / SizeOf(*dtype));
      ASSERT_TRUE(file->Read(entry, 0, values).ok());
    }
  }
}

}  // namespace
}  // namespace strata::engine
