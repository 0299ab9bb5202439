// The library itself, as far as it can be asked without a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <string>

#include "engine/comm/nccl/nccl_comm.h"
#include "engine/comm/nccl/nccl_functions.h"
#include "tests/aio/scratch.h"

namespace strata::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(NcclLibraryTest, MakesIdsThatDiffer) {
  const Result<NcclFunctions> nccl = LoadNccl();
  if (!nccl.ok() && !IsRequired("gpu")) GTEST_SKIP() << nccl.status().message();
  ASSERT_TRUE(nccl.ok()) << nccl.status().ToString();
  int version = 0;
  ASSERT_EQ(nccl->get_version(&version), NcclResult::kSuccess);
  EXPECT_GE(version, 21800) << NcclVersionText(version);
  NcclUniqueId first = {};
  NcclUniqueId second = {};
  ASSERT_EQ(nccl->get_unique_id(&first), NcclResult::kSuccess);
  ASSERT_EQ(nccl->get_unique_id(&second), NcclResult::kSuccess);
  EXPECT_FALSE(std::equal(std::begin(first.bytes), std::end(first.bytes), second.bytes));
  EXPECT_STREQ(nccl->get_error_string(NcclResult::kSuccess), "no error");
}

TEST(NcclLibraryTest, OneThatLacksAFunctionIsNamed) {
  const std::string folder = std::string(STRATA_BINARY_DIR) + "/tests/engine/comm/libraries";
  ASSERT_EQ(setenv("STRATA_CUDA_LIBRARIES", folder.c_str(), 1), 0);
  const Status status = LoadNccl().status();
  ASSERT_EQ(unsetenv("STRATA_CUDA_LIBRARIES"), 0);
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr(folder + "/libnccl.so.2"), HasSubstr("ncclGetUniqueId")));
}

}  // namespace
}  // namespace strata::engine
