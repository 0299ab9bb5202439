#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <map>
#include <thread>

#include "engine/checkpoint/weight_source.h"
#include "tests/engine/checkpoint/scratch.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct Tensor {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string data;
};
using Tensors = std::map<std::string, Tensor>;

std::string FileOf(const Tensors& tensors) {
  std::string header, data;
  for (const auto& [name, tensor] : tensors) {
    std::string shape;
    for (uint64_t extent : tensor.shape)
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":")" + tensor.dtype +
              R"(","shape":[)" + shape + R"(],"data_offsets":[)" + std::to_string(data.size()) +
              "," + std::to_string(data.size() + tensor.data.size()) + "]}";
    data += tensor.data;
  }
  return SafetensorsBytes(header + "}", data);
}

UnitSpec Unit(const std::string& name, const std::vector<std::pair<std::string, uint64_t>>& sizes) {
  UnitSpec unit;
  unit.name = name;
  for (const auto& [tensor, size] : sizes)
    unit.tensors.push_back({.name = tensor, .shape = {2, size / 2}, .num_elements = size});
  return unit;
}

class HuggingFaceWeightsTest : public ScratchTest {
 protected:
  Status ErrorOf() const { return OpenHuggingFaceWeights(path_, units_).status(); }
  void WriteIndex(const std::string& weight_map) const {
    WriteFile("model.safetensors.index.json",
              R"({"metadata": {}, "weight_map": )" + weight_map + "}");
  }
  std::vector<float> ReadTensor(WeightSource& source, const TensorSpec& tensor) const {
    std::vector<float> values(tensor.num_elements);
    Status status = source.Read(tensor, 0, values);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return values;
  }

  // 1, 2, 3, 4 in each dtype.
  Tensor f32_ = {"F32", {2, 2}, BytesOf<float>(std::vector<float>{1, 2, 3, 4})};
  Tensor f16_ = {
      "F16", {2, 2}, BytesOf<uint16_t>(std::vector<uint16_t>{0x3c00, 0x4000, 0x4200, 0x4400})};
  Tensor bf16_ = {
      "BF16", {2, 2}, BytesOf<uint16_t>(std::vector<uint16_t>{0x3f80, 0x4000, 0x4040, 0x4080})};
  std::vector<UnitSpec> units_ = {Unit("embedding", {{"embed.weight", 4}}),
                                  Unit("head", {{"norm.weight", 4}, {"up.weight", 4}})};
  Tensors tensors_ = {{"embed.weight", f32_}, {"norm.weight", f16_}, {"up.weight", bf16_}};
};

TEST_F(HuggingFaceWeightsTest, EveryDTypeIsReadExactly) {
  WriteFile("model.safetensors", FileOf(tensors_));
  std::unique_ptr<WeightSource> source = OrDie(OpenHuggingFaceWeights(path_, units_));
  for (const UnitSpec& unit : units_) {
    for (const TensorSpec& tensor : unit.tensors)
      EXPECT_EQ(ReadTensor(*source, tensor), (std::vector<float>{1, 2, 3, 4})) << tensor.name;
  }
}

TEST_F(HuggingFaceWeightsTest, SlicesCanBeReadAtOnceByManyThreads) {
  std::vector<float> values(90'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  units_ = {Unit("all", {{"big.weight", values.size()}})};
  WriteFile("model.safetensors",
            FileOf({{"big.weight", {"F32", {2, values.size() / 2}, BytesOf<float>(values)}}}));
  std::unique_ptr<WeightSource> source = OrDie(OpenHuggingFaceWeights(path_, units_));
  std::vector<float> read(values.size());
  {
    std::vector<std::jthread> threads;
    for (size_t first = 0; first < read.size(); first += read.size() / 3) {
      threads.emplace_back([&, first] {
        std::span<float> slice = std::span(read).subspan(first, read.size() / 3);
        EXPECT_TRUE(source->Read(units_[0].tensors[0], first, slice).ok());
      });
    }
  }
  EXPECT_EQ(read, values);
}

TEST_F(HuggingFaceWeightsTest, ShardsAreFoundThroughTheIndex) {
  WriteFile("a.safetensors", FileOf({{"embed.weight", f32_}}));
  WriteFile("b.safetensors", FileOf({{"norm.weight", f16_}, {"up.weight", bf16_}}));
  WriteIndex(R"({"embed.weight": "a.safetensors", "norm.weight": "b.safetensors",
                 "up.weight": "b.safetensors"})");
  std::unique_ptr<WeightSource> source = OrDie(OpenHuggingFaceWeights(path_, units_));
  for (const UnitSpec& unit : units_) {
    for (const TensorSpec& tensor : unit.tensors)
      EXPECT_EQ(ReadTensor(*source, tensor), (std::vector<float>{1, 2, 3, 4})) << tensor.name;
  }
}

TEST_F(HuggingFaceWeightsTest, AllMissingAndUnexpectedTensorsAreNamedAtOnce) {
  WriteFile("model.safetensors",
            FileOf({{"embed.weight", f32_}, {"extra.bias", f32_}, {"more.bias", f32_}}));
  Status status = ErrorOf();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(status.message(),
            path_ +
                ": the weights do not fit config.json: 2 tensors of the model are missing: "
                "norm.weight, up.weight; 2 tensors are not of this model: extra.bias, more.bias");
}

TEST_F(HuggingFaceWeightsTest, AWrongShapeIsNamedWithBothShapes) {
  tensors_["up.weight"].shape = {4};
  WriteFile("model.safetensors", FileOf(tensors_));
  Status status = ErrorOf();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("tensor 'up.weight' in " + Path("model.safetensors") +
                                          " has shape [4], the model needs [2, 2]"));
}

TEST_F(HuggingFaceWeightsTest, ADTypeThatIsNotReadIsAnErrorOnlyForATensorThatIsNeeded) {
  Tensor i32 = {"I32", {2, 2}, std::string(16, '\0')};
  tensors_["layers.0.rotary_emb.inv_freq"] = i32;
  WriteFile("model.safetensors", FileOf(tensors_));
  EXPECT_TRUE(ErrorOf().ok());
  tensors_["norm.weight"] = i32;
  WriteFile("model.safetensors", FileOf(tensors_));
  EXPECT_THAT(ErrorOf().message(), AllOf(HasSubstr("tensor 'norm.weight'"), HasSubstr("dtype I32"),
                                         HasSubstr("F32, F16 and BF16")));
}

TEST_F(HuggingFaceWeightsTest, ATiedModelAcceptsTheHeadThatTransformersSavedWithIt) {
  tensors_["lm_head.weight"] = f32_;
  WriteFile("model.safetensors", FileOf(tensors_));
  EXPECT_TRUE(ErrorOf().ok()) << ErrorOf().ToString();
}

TEST_F(HuggingFaceWeightsTest, ATruncatedFileIsAnErrorBeforeAnythingIsRead) {
  std::string whole = FileOf(tensors_);
  WriteFile("model.safetensors", whole.substr(0, whole.size() - 1));
  EXPECT_EQ(ErrorOf().code(), Code::kDataLoss);
  EXPECT_THAT(ErrorOf().message(), StartsWith(Path("model.safetensors")));
}

TEST_F(HuggingFaceWeightsTest, ADirectoryWithoutWeightsSaysWhatIsLookedFor) {
  EXPECT_EQ(ErrorOf().code(), Code::kNotFound);
  EXPECT_THAT(ErrorOf().message(), AllOf(StartsWith(path_), HasSubstr("model.safetensors")));
}

TEST_F(HuggingFaceWeightsTest, AllShardsThatAreNotThereAreNamed) {
  WriteFile("b.safetensors", FileOf({{"norm.weight", f16_}}));
  WriteIndex(R"({"embed.weight": "a.safetensors", "norm.weight": "b.safetensors",
                 "up.weight": "c.safetensors"})");
  EXPECT_EQ(ErrorOf().code(), Code::kNotFound);
  EXPECT_THAT(ErrorOf().message(),
              AllOf(StartsWith(Path("model.safetensors.index.json")), HasSubstr("2 of the 3"),
                    HasSubstr("a.safetensors, c.safetensors")));
}

TEST_F(HuggingFaceWeightsTest, ATensorInAnotherShardThanTheIndexSaysIsNamedWithBoth) {
  WriteFile("a.safetensors", FileOf({{"embed.weight", f32_}, {"up.weight", bf16_}}));
  WriteFile("b.safetensors", FileOf({{"norm.weight", f16_}}));
  WriteIndex(R"({"embed.weight": "a.safetensors", "norm.weight": "b.safetensors",
                 "up.weight": "b.safetensors"})");
  EXPECT_THAT(ErrorOf().message(),
              HasSubstr("tensor 'up.weight' is in a.safetensors, where the index says it is in "
                        "b.safetensors"));
}

TEST_F(HuggingFaceWeightsTest, ATensorThatItsShardLacksIsNamed) {
  WriteFile("a.safetensors", FileOf({{"embed.weight", f32_}}));
  WriteIndex(R"({"embed.weight": "a.safetensors", "norm.weight": "a.safetensors"})");
  EXPECT_THAT(ErrorOf().message(),
              HasSubstr("tensor 'norm.weight' should be in a.safetensors, but is not"));
}

TEST_F(HuggingFaceWeightsTest, ATensorThatTheIndexDoesNotKnowIsNamed) {
  WriteFile("a.safetensors", FileOf(tensors_));
  WriteIndex(R"({"embed.weight": "a.safetensors", "norm.weight": "a.safetensors"})");
  EXPECT_THAT(ErrorOf().message(), HasSubstr("tensor 'up.weight' is in a.safetensors, where the "
                                             "index says nothing of it"));
}

TEST_F(HuggingFaceWeightsTest, ADuplicateKeyInTheIndexIsAnError) {
  WriteFile("a.safetensors", FileOf({{"embed.weight", f32_}}));
  WriteIndex(R"({"embed.weight": "a.safetensors", "embed.weight": "a.safetensors"})");
  EXPECT_THAT(ErrorOf().message(), AllOf(StartsWith(Path("model.safetensors.index.json")),
                                         HasSubstr("duplicate key 'embed.weight'")));
}

TEST_F(HuggingFaceWeightsTest, TheIndexCannotNameFilesElsewhere) {
  for (const char* name : {"../a.safetensors", "/etc/passwd", "..", ""}) {
    WriteIndex(R"({"embed.weight": ")" + std::string(name) + R"("})");
    EXPECT_THAT(ErrorOf().message(), HasSubstr("the name of a file beside the index")) << name;
  }
}

TEST_F(HuggingFaceWeightsTest, TheSingleFileWinsOverAnIndexAsInTransformers) {
  WriteFile("model.safetensors", FileOf(tensors_));
  WriteIndex(R"({"embed.weight": "gone.safetensors"})");
  EXPECT_TRUE(ErrorOf().ok()) << ErrorOf().ToString();
}

}  // namespace
}  // namespace strata::engine
