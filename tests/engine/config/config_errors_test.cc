#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/config/run_config.h"
#include "tests/engine/config/minimal_config.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// The message for the minimal config with `extra` lines after it.
std::string ErrorOfText(const std::string& extra) {
  return ParseRunConfig(std::string(kMinimalConfig) + extra, "run.toml").status().message();
}

TEST(ConfigErrors, AnUnknownKeyHasItsPositionAndTheNearestKnownOne) {
  EXPECT_EQ(ErrorOfText("[optimizer]\n  wieght_decay = 0.1\n"),
            "run.toml:21:3: unknown key 'wieght_decay' in [optimizer]; did you mean "
            "'weight_decay'?");
}

TEST(ConfigErrors, AKeyInTheWrongSectionIsToldWhereItBelongs) {
  EXPECT_THAT(ErrorOfText("[optimizer]\nprefetch_ops = 1\n"),
              HasSubstr("unknown key 'prefetch_ops' in [optimizer]; it belongs in "
                        "[zero_optimization]"));
}

TEST(ConfigErrors, AnUnknownKeyLikeNoOtherListsTheKnownOnes) {
  EXPECT_THAT(ErrorOfText("[checkpoint]\nwhatever_this_is = 1\n"),
              HasSubstr("known here: every_steps, keep_last"));
}

TEST(ConfigErrors, AnUnknownSectionHasItsNearestToo) {
  EXPECT_EQ(ErrorOfText("[zero_optimisation]\nstage = 3\n"),
            "run.toml:20:2: unknown section [zero_optimisation]; did you mean "
            "'zero_optimization'?");
  EXPECT_THAT(ErrorOfText("[zero_optimization.offload_params]\n"),
              HasSubstr("did you mean 'offload_param'?"));
}

TEST(ConfigErrors, AKeyOutsideTheSectionsIsUnknown) {
  Status status = ParseRunConfig("steps = 3\n" + std::string(kMinimalConfig), "run.toml").status();
  EXPECT_THAT(status.message(),
              HasSubstr("run.toml:1:1: unknown key 'steps' outside the sections; it belongs in "
                        "[train]"));
}

TEST(ConfigErrors, AValueInPlaceOfASectionIsRefused) {
  EXPECT_THAT(ErrorOf({"aio=3"}), HasSubstr("'aio' must be a section, [aio], is 3"));
}

TEST(ConfigErrors, AWrongTypeNamesWhatIsExpected) {
  EXPECT_EQ(ErrorOfText("[zero_optimization]\nstage = \"three\"\n"),
            "run.toml:21:9: [zero_optimization] stage must be an integer in [0, 3], is \"three\"");
  EXPECT_THAT(ErrorOf({"train.steps=1.5"}), HasSubstr("must be an integer in [1, 1000000000]"));
  EXPECT_THAT(ErrorOf({"aio.single_submit=1"}), HasSubstr("must be true or false, is 1"));
  EXPECT_THAT(ErrorOf({"data.path=1"}), HasSubstr("must be a path in quotes, is 1"));
  EXPECT_THAT(ErrorOf({"optimizer.betas=0.9"}), HasSubstr("must be an array of two numbers"));
  EXPECT_THAT(ErrorOf({"optimizer.lr=fast"}), HasSubstr("must be a number in [0, 10]"));
  EXPECT_THAT(ErrorOf({"zero_optimization.prefetch_ops=many"}),
              HasSubstr("must be \"auto\" or an integer in [0, 4096], is \"many\""));
  EXPECT_THAT(ErrorOf({"zero_optimization.offload_param.nvme_path=[]"}),
              HasSubstr("must be a path in quotes, or an array of them, is an array"));
}

TEST(ConfigErrors, AValueOutOfRangeIsToldTheRange) {
  EXPECT_THAT(ErrorOf({"zero_optimization.stage=4"}), HasSubstr("an integer in [0, 3], is 4"));
  EXPECT_THAT(ErrorOf({"train.steps=-1"}), HasSubstr("an integer in [1, 1000000000], is -1"));
  EXPECT_THAT(ErrorOf({"optimizer.betas=[0.9, 1.0]"}), HasSubstr("a number in [0, 1), is 1"));
  EXPECT_THAT(ErrorOf({"optimizer.eps=0"}), HasSubstr("a number in (0, 1], is 0"));
  EXPECT_THAT(ErrorOf({"optimizer.lr=nan"}), HasSubstr("a number in [0, 10], is nan"));
  EXPECT_THAT(ErrorOf({"train.gradient_clipping=inf"}), HasSubstr("is inf"));
  EXPECT_THAT(ErrorOf({"hardware.rates.\"mlp.forward\"=0"}), HasSubstr("mlp.forward must be"));
}

TEST(ConfigErrors, AnUnknownChoiceListsThem) {
  EXPECT_THAT(ErrorOf({"train.precision=fp8"}),
              HasSubstr("must be one of \"bf16\", \"fp32\", \"fp16\", is \"fp8\""));
  EXPECT_THAT(ErrorOf({"aio.backend=uring"}),
              HasSubstr("\"auto\", \"io_uring\", \"libaio\", \"posix\""));
}

TEST(ConfigErrors, ADeviceIsAutoCpuCudaOrOneGpu) {
  for (const char* device : {"gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999", "CPU", ""})
    EXPECT_THAT(
        ErrorOf({std::string("train.device=\"") + device + "\""}),
        HasSubstr("[train] device must be \"auto\", \"cpu\", \"cuda\" or \"cuda:N\", N from 0"))
        << device;
  EXPECT_THAT(ErrorOf({"train.device=0"}), HasSubstr("[train] device must be"));
}

TEST(ConfigErrors, ALossScaleIsForFp16) {
  EXPECT_THAT(ErrorOf({"fp16.hysteresis=3"}), HasSubstr("precision = \"fp16\""));
  EXPECT_THAT(ErrorOf({"train.precision=fp16", "optimizer.state=split"}),
              HasSubstr("precision = \"fp16\" has none of those"));
}

TEST(ConfigErrors, DecimalUnitsAreRefusedNotGuessed) {
  EXPECT_THAT(ErrorOf({"memory.device=64MB"}),
              AllOf(StartsWith("--set memory.device=64MB: [memory] device must be a size from"),
                    HasSubstr("as in \"64MiB\", is \"64MB\"")));
}

TEST(ConfigErrors, EverythingThatIsWrongIsReportedAtOnce) {
  std::string error = ErrorOf({"train.steps=0", "optimizer.typ=Adam", "memory.host=1"});
  EXPECT_THAT(error, AllOf(HasSubstr("--set train.steps=0: [train] steps must be"),
                           HasSubstr("--set optimizer.typ=Adam: unknown key 'typ'"),
                           HasSubstr("--set memory.host=1: [memory] host must be")));
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 2);
}

TEST(ConfigErrors, MissingKeysAreNamed) {
  std::string error = ParseRunConfig("[data]\n", "run.toml").status().message();
  for (const char* missing :
       {"missing key 'path' in [data]", "missing key 'seq_len' in [data]",
        "missing key 'run_dir' in [train]", "missing key 'device' in [memory]"})
    EXPECT_THAT(error, HasSubstr(std::string("run.toml: ") + missing));
}

TEST(ConfigErrors, AModelWithoutAShapeIsToldWhatToGive) {
  std::string text(kMinimalConfig);
  std::string error =
      ParseRunConfig(text.substr(text.find("[data]")), "run.toml").status().message();
  EXPECT_THAT(error, AllOf(HasSubstr("[model] misses vocab_size, hidden_size"),
                           HasSubstr("config = \"path\"")));
}

TEST(ConfigErrors, AShapeThatNoModelCanHaveIsRefused) {
  EXPECT_THAT(ErrorOf({"model.num_attention_heads=5"}), HasSubstr("num_attention_heads 5"));
}

TEST(ConfigErrors, ASequenceLongerThanTheModelsPositionsIsRefused) {
  EXPECT_THAT(ErrorOf({"data.seq_len=4096"}),
              HasSubstr("seq_len 4096 exceeds the model's max_position_embeddings 2048"));
}

TEST(ConfigErrors, AKeyWithoutEffectMustStillBeWhatItIs) {
  EXPECT_THAT(ErrorOf({"zero_optimization.overlap_comm=5"}),
              HasSubstr("overlap_comm must be true or false, is 5"));
  EXPECT_THAT(ErrorOf({"zero_optimization.sub_group_size=true"}),
              HasSubstr("sub_group_size must be a number, is true"));
}

TEST(ConfigErrors, GradientsTravelAsTheOptimizerReadsThemOrInFp32) {
  EXPECT_THAT(ErrorOf({"train.precision=bf16", "train.communication_data_type=fp16"}),
              HasSubstr("communication_data_type = \"fp16\" with precision = \"bf16\""));
  EXPECT_THAT(ErrorOf({"train.precision=fp32", "train.communication_data_type=bf16"}),
              HasSubstr("set it to \"auto\""));
}

TEST(ConfigErrors, BatchSizesThatDoNotAgreeShowTheArithmetic) {
  EXPECT_THAT(ErrorOf({"train.train_batch_size=7", "train.train_micro_batch_size_per_gpu=2"}),
              HasSubstr("train_batch_size 7 = train_micro_batch_size_per_gpu 2 * "
                        "gradient_accumulation_steps 3 * world_size 1 gives 6 (given: 7, 2, 0;"));
  EXPECT_THAT(ErrorOf({"train.train_batch_size=2", "train.train_micro_batch_size_per_gpu=4"}),
              HasSubstr("gives 0"));
  EXPECT_THAT(ErrorOf({"train.train_batch_size=4", "train.world_size=8"}), HasSubstr("gives 0"));
  EXPECT_THAT(ErrorOf({"train.train_batch_size=0"}),
              HasSubstr("needs train_batch_size or train_micro_batch_size_per_gpu"));
}

TEST(ConfigErrors, ASchedulersKeysAreItsOwn) {
  EXPECT_THAT(ErrorOf({"scheduler.type=WarmupLR", "scheduler.cos_min_ratio=0.1"}),
              HasSubstr("key 'cos_min_ratio' does not apply: [scheduler] type \"WarmupLR\" does "
                        "not have it"));
  EXPECT_THAT(ErrorOf({"scheduler.warmup_num_steps=10"}), HasSubstr("type \"constant\""));
}

TEST(ConfigErrors, OffloadingNeedsItsStage) {
  EXPECT_THAT(ErrorOf({"zero_optimization.stage=2", "zero_optimization.offload_param.device=cpu"}),
              HasSubstr("offload_param] device needs stage = 3, is stage = 2"));
  EXPECT_THAT(ErrorOf({"zero_optimization.offload_optimizer.device=cpu"}),
              HasSubstr("offload_optimizer] device needs stage >= 1, is stage = 0"));
}

TEST(ConfigErrors, NvmeNeedsOneListOfPaths) {
  EXPECT_THAT(ErrorOf({"zero_optimization.stage=3", "zero_optimization.offload_param.device=nvme"}),
              HasSubstr("missing key 'nvme_path' in [zero_optimization.offload_param]"));
  EXPECT_THAT(ErrorOf({"zero_optimization.offload_optimizer.host_cache=1GiB"}),
              HasSubstr("key 'host_cache' does not apply: it is for state at home on nvme: set "
                        "device = \"nvme\""));
  EXPECT_THAT(ErrorOf({"zero_optimization={stage=3, offload_optimizer={device='nvme', "
                       "nvme_path='/a', host_cache='lots'}}"}),
              HasSubstr("host_cache must be \"auto\" or a size from"));
  EXPECT_THAT(ErrorOf({"zero_optimization={stage=3, offload_param={device='nvme', nvme_path='/a'}, "
                       "offload_optimizer={device='nvme', nvme_path='/b'}}"}),
              HasSubstr("differ: one store holds both"));
}

TEST(ConfigErrors, BlocksAreWholePages) {
  EXPECT_THAT(ErrorOf({"aio.block_size=5000"}), HasSubstr("a multiple of 4096 bytes, is 5000"));
}

TEST(ConfigErrors, OneThingUnderTwoNamesIsRefused) {
  EXPECT_THAT(ErrorOfText("[aio]\nthread_count = 1\nintra_op_parallelism = 2\n"),
              HasSubstr("another name of 'thread_count'"));
}

TEST(ConfigErrors, WhatAnOverrideBreaksTogetherWithTheFileNamesBoth) {
  EXPECT_THAT(ErrorOf({"train.seed=1", "data.seq_len=4096"}),
              StartsWith("/etc/strata/run.toml with --set data.seq_len=4096: [data] seq_len 4096"));
  EXPECT_THAT(ErrorOf({"train.world_size=3", "train.train_micro_batch_size_per_gpu=2"}),
              StartsWith("/etc/strata/run.toml with --set train.world_size=3 "
                         "--set train.train_micro_batch_size_per_gpu=2: [train] the batch"));
  EXPECT_THAT(ErrorOf({"zero_optimization.stage=3", "zero_optimization.offload_param.device=nvme"}),
              StartsWith("/etc/strata/run.toml with "
                         "--set zero_optimization.offload_param.device=nvme: missing key"));
  EXPECT_THAT(ErrorOfText("[scheduler]\ncos_min_ratio = 0.1\n"), StartsWith("run.toml:21:17: key"));
  EXPECT_THAT(ParseRunConfig(std::string(kMinimalConfig) + "[scheduler]\ncos_min_ratio = 0.1\n",
                             "run.toml", {"scheduler.type=WarmupLR"})
                  .status()
                  .message(),
              StartsWith("run.toml:21:17 with --set scheduler.type=WarmupLR: key"));
}

TEST(ConfigErrors, TextThatIsNotTomlHasItsPosition) {
  EXPECT_THAT(ParseRunConfig("[data\npath = 1", "run.toml").status().message(),
              StartsWith("run.toml:1:6: not valid TOML: "));
  EXPECT_THAT(ParseRunConfig("b=[1,}}", "run.toml").status().message(), StartsWith("run.toml:1:"));
  EXPECT_THAT(ErrorOfText("[data]\npath = \"again\"\n"), HasSubstr("not valid TOML"));
}

TEST(ConfigErrors, AnOverrideThatIsNoneIsToldTheForm) {
  EXPECT_EQ(ErrorOf({"train.steps"}), "--set train.steps: write section.key=value on one line");
  EXPECT_THAT(ErrorOf({"=3"}), StartsWith("--set =3: not valid TOML"));
  EXPECT_THAT(ErrorOf({"train.steps.deep=3"}), HasSubstr("--set train.steps.deep=3"));
}

TEST(ConfigErrors, AStateThatIsHalfInBf16WeightsNeedsThem) {
  for (const char* state : {"split", "int8"}) {
    EXPECT_THAT(ErrorOf({"train.precision=fp32", std::string("optimizer.state=") + state}),
                AllOf(HasSubstr(std::string("[optimizer] state = \"") + state),
                      HasSubstr("set state = \"auto\" or precision = \"bf16\"")));
  }
}

}  // namespace
}  // namespace strata::engine
