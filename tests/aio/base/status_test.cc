#include "aio/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

namespace strata {
namespace {

TEST(StatusTest, LayersAddWhatTheyKnowOutermostFirst) {
  Status status = ErrnoStatus(EIO, "read /nvme0/p.bin offset_bytes=4096 length_bytes=1048576");
  EXPECT_EQ(status.With("layer 3").With("step 12").message(),
            "step 12: layer 3: read /nvme0/p.bin offset_bytes=4096 length_bytes=1048576: "
            "Input/output error");
  EXPECT_EQ(status.With("layer 3").code(), Code::kIoError);
}

TEST(StatusTest, ContextDoesNothingToOk) {
  EXPECT_TRUE(OkStatus().With("step 12").ok());
  EXPECT_EQ(OkStatus().With("step 12").ToString(), "ok");
}

TEST(StatusTest, TextStartsWithTheCode) {
  EXPECT_EQ(DataLoss("checksum of block w").ToString(), "data loss: checksum of block w");
}

TEST(StatusTest, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::kIoError); ++code)
    EXPECT_TRUE(names.insert(CodeName(static_cast<Code>(code))).second) << code;
  EXPECT_FALSE(names.contains("unknown"));
}

TEST(StatusTest, ErrnoBecomesTheCodeThatSaysWhatToDo) {
  EXPECT_EQ(ErrnoStatus(ENOSPC, "").code(), Code::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(ENOMEM, "").code(), Code::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus(ENOENT, "").code(), Code::kNotFound);
  EXPECT_EQ(ErrnoStatus(EEXIST, "").code(), Code::kAlreadyExists);
  EXPECT_EQ(ErrnoStatus(EROFS, "").code(), Code::kPermissionDenied);
  EXPECT_EQ(ErrnoStatus(EINVAL, "").code(), Code::kInvalidArgument);
  EXPECT_EQ(ErrnoStatus(ENOSYS, "").code(), Code::kUnavailable);
  EXPECT_EQ(ErrnoStatus(EIO, "").code(), Code::kIoError);
  EXPECT_EQ(ErrnoStatus(EREMOTEIO, "").code(), Code::kIoError);
}

TEST(StatusDeathTest, AFailureWithoutAFailureCodeIsOurMistake) {
  EXPECT_DEATH(static_cast<void>(Status(Code::kOk, "fine?")), "check failed: code != Code::kOk");
}

Result<int> Half(int number) {
  if (number % 2 != 0) return InvalidArgument(std::to_string(number) + " is odd");
  return number / 2;
}
Result<int> Quarter(int number) {
  STRATA_ASSIGN_OR_RETURN(int half, Half(number));
  STRATA_ASSIGN_OR_RETURN(int quarter, Half(half));
  return quarter;
}
Status CheckQuarter(int number) {
  STRATA_RETURN_IF_ERROR(Quarter(number).status().With("quarter"));
  return OkStatus();
}

TEST(ResultTest, HoldsAValueOrTheReason) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_TRUE(Quarter(8).status().ok());
  EXPECT_EQ(Quarter(6).status().message(), "3 is odd");
}

TEST(ResultTest, MacrosPassTheFailureOn) {
  EXPECT_TRUE(CheckQuarter(8).ok());
  EXPECT_EQ(CheckQuarter(6).message(), "quarter: 3 is odd");
}

TEST(ResultTest, ContextKeepsTheValue) {
  EXPECT_EQ(*Half(4).With("half"), 2);
  EXPECT_EQ(Half(3).With("half").status().message(), "half: 3 is odd");
}

TEST(ResultTest, CarriesWhatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  EXPECT_EQ(**result, 7);
  std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 7);
}

TEST(ResultDeathTest, TheValueOfAFailureIsOurMistake) {
  Result<int> result = Half(3);
  EXPECT_DEATH(static_cast<void>(result.value()), "check failed: ok\\(\\)");
}

}  // namespace
}  // namespace strata
