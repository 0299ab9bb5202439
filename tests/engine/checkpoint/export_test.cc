#include "engine/checkpoint/export.h"

#include <gmock/gmock.h>
#include <sys/mount.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/weight_source.h"
#include "tests/engine/checkpoint/scratch.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr uint64_t kBufferBytes = 1 << 20;

class ExportTest : public ScratchTest {
 protected:
  void SetUp() override {
    ScratchTest::SetUp();
    config_.vocab_size = 260;
    config_.hidden_size = 32;
    config_.intermediate_size = 48;
    config_.num_hidden_layers = 2;
    config_.num_attention_heads = 4;
    config_.num_key_value_heads = 2;
    config_.head_dim = 8;
    units_ = UnitsOf(config_);
    options_ = {.directory = Path("out"), .dtype = DType::kF32, .buffer_bytes = kBufferBytes};
  }

  // The weights of seed 5, cast to the options' dtype.
  Status ReadRandom(const TensorSpec& tensor, uint64_t first, std::span<std::byte> out) const {
    EXPECT_LE(out.size(), kBufferBytes);
    std::vector<float> values(out.size() / SizeOf(options_.dtype));
    STRATA_RETURN_IF_ERROR(random_->Read(tensor, first, values));
    for (size_t i = 0; i < values.size(); ++i) {
      Bf16 half = ToBf16(values[i]);
      if (options_.dtype == DType::kF32)
        std::memcpy(&out[i * sizeof(float)], &values[i], sizeof(float));
      else
        std::memcpy(&out[i * sizeof(half)], &half, sizeof(half));
    }
    return OkStatus();
  }
  Status Export() { return ExportHuggingFace(config_, units_, reader_, options_); }
  void ExpectExport() {
    Status status = Export();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  // Opens the export as any other checkpoint and compares all of it.
  void ExpectRandomWeightsInTheExport() {
    std::unique_ptr<WeightSource> source =
        OrDie(OpenHuggingFaceWeights(options_.directory, units_));
    for (const UnitSpec& unit : units_) {
      for (const TensorSpec& tensor : unit.tensors) {
        std::vector<float> expected(tensor.num_elements), actual(tensor.num_elements);
        ASSERT_TRUE(random_->Read(tensor, 0, expected).ok());
        if (options_.dtype == DType::kBf16) {
          for (float& value : expected) value = FromBf16(ToBf16(value));
        }
        ASSERT_TRUE(source->Read(tensor, 0, actual).ok());
        ASSERT_EQ(actual, expected) << tensor.name;
      }
    }
  }

  static std::vector<std::string> NamesIn(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  LlamaConfig config_;
  std::vector<UnitSpec> units_;
  ExportOptions options_;
  std::unique_ptr<WeightSource> random_ = MakeRandomWeights(5, 0.02);
  TensorReader reader_ = [this](const TensorSpec& tensor, uint64_t first,
                                std::span<std::byte> out) {
    return ReadRandom(tensor, first, out);
  };
};

TEST_F(ExportTest, WhatIsExportedIsImportedBitForBit) {
  ExpectExport();
  EXPECT_THAT(NamesIn(path_), ElementsAre("out"));
  EXPECT_THAT(NamesIn(Path("out")), ElementsAre("config.json", "model.safetensors"));
  ExpectRandomWeightsInTheExport();
}

TEST_F(ExportTest, Bf16HalvesTheFile) {
  options_.dtype = DType::kBf16;
  ExpectExport();
  EXPECT_LT(std::filesystem::file_size(Path("out/model.safetensors")),
            2 * NumParameters(config_) + 4096);
  ExpectRandomWeightsInTheExport();
}

TEST_F(ExportTest, TheConfigIsThatOfTheModel) {
  ExpectExport();
  EXPECT_EQ(OrDie(ParseLlamaConfig(ReadFile(Path("out/config.json")), "config.json")), config_);
}

TEST_F(ExportTest, ALargeModelIsCutIntoShardsWithAnIndex) {
  options_.max_shard_bytes = 30'000;
  ExpectExport();
  auto index = nlohmann::json::parse(ReadFile(Path("out/model.safetensors.index.json")));
  EXPECT_EQ(index["metadata"]["total_size"], 4 * NumParameters(config_));
  std::map<std::string, std::string> weight_map = index["weight_map"];
  std::vector<std::string> names = NamesIn(Path("out"));
  EXPECT_EQ(names.size(), 2 + 5u);  // the embedding and lm_head alone are larger than a shard
  for (const std::string& name : names) {
    if (!name.ends_with("-of-00005.safetensors")) continue;
    SafetensorsFile shard = OrDie(SafetensorsFile::Open(Path("out/" + name)));
    uint64_t data_bytes = 0;
    for (const SafetensorsEntry& entry : shard.entries()) {
      EXPECT_EQ(weight_map[entry.name], name);
      data_bytes += entry.size_bytes;
    }
    EXPECT_TRUE(data_bytes <= options_.max_shard_bytes || shard.entries().size() == 1) << name;
  }
  ExpectRandomWeightsInTheExport();
}

TEST_F(ExportTest, TensorsLargerThanTheBufferAreCopiedInPieces) {
  config_.vocab_size = 20'000;  // 2.4 MiB of embedding
  units_ = UnitsOf(config_);
  ExpectExport();
  ExpectRandomWeightsInTheExport();
}

TEST_F(ExportTest, ProgressEndsAtTheTotal) {
  std::vector<uint64_t> done;
  options_.on_progress = [&](uint64_t done_bytes, uint64_t total_bytes) {
    EXPECT_EQ(total_bytes, 4 * NumParameters(config_));
    done.push_back(done_bytes);
  };
  ExpectExport();
  ASSERT_FALSE(done.empty());
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 4 * NumParameters(config_));
}

TEST_F(ExportTest, AReaderThatFailsHalfWayLeavesNothingBehind) {
  reader_ = [this](const TensorSpec& tensor, uint64_t first, std::span<std::byte> out) {
    if (tensor.name == "model.layers.1.mlp.up_proj.weight") return DataLoss("block w.7: bad sum");
    return ReadRandom(tensor, first, out);
  };
  Status status = Export();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_EQ(status.message(),
            "export to " + Path("out") +
                ": tensor 'model.layers.1.mlp.up_proj.weight': block w.7: bad sum");
  EXPECT_THAT(NamesIn(path_), ElementsAre());
}

TEST_F(ExportTest, ADirectoryWithSomethingInItIsRefusedAndStaysAsItIs) {
  std::filesystem::create_directory(Path("out"));
  WriteFile("out/precious", "bytes");
  Status status = Export();
  EXPECT_EQ(status.code(), Code::kAlreadyExists);
  EXPECT_EQ(status.message(),
            Path("out") + " exists and is not empty: name another directory, or remove it first");
  EXPECT_EQ(ReadFile(Path("out/precious")), "bytes");
  EXPECT_THAT(NamesIn(path_), ElementsAre("out"));
}

TEST_F(ExportTest, AFileInThePlaceOfTheDirectoryIsRefused) {
  WriteFile("out", "bytes");
  EXPECT_EQ(Export().code(), Code::kAlreadyExists);
  EXPECT_EQ(ReadFile(Path("out")), "bytes");
}

TEST_F(ExportTest, AnEmptyDirectoryIsFilled) {
  std::filesystem::create_directory(Path("out"));
  options_.directory += "/";
  ExpectExport();
  ExpectRandomWeightsInTheExport();
}

TEST_F(ExportTest, ADirectoryThatIsMissingAboveIsNamed) {
  options_.directory = Path("missing/out");
  Status status = Export();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.message(), AllOf(HasSubstr(Path("missing/out")), HasSubstr("create it")));
}

// A tmpfs of 64 KiB.
class ExportToSmallDiskTest : public ExportTest {
 protected:
  void SetUp() override {
    ExportTest::SetUp();
    std::filesystem::create_directory(Path("disk"));
    if (mount("none", Path("disk").c_str(), "tmpfs", 0, "size=64k") != 0)
      GTEST_SKIP() << "mounting is not allowed here: " << std::strerror(errno);
    is_mounted_ = true;
  }
  void TearDown() override {
    if (is_mounted_) {
      EXPECT_EQ(umount(Path("disk").c_str()), 0);
    }
    ExportTest::TearDown();
  }
  bool is_mounted_ = false;
};

TEST_F(ExportToSmallDiskTest, ADiskThatIsFullIsSaidAndLeftAsItWas) {
  options_.directory = Path("disk/out");
  Status status = Export();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_THAT(status.message(), AllOf(StartsWith("export to " + Path("disk/out")),
                                      HasSubstr("No space left on device")));
  EXPECT_THAT(NamesIn(Path("disk")), ElementsAre());
}

}  // namespace
}  // namespace strata::engine
