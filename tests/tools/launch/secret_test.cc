#include "tools/launch/secret.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "tests/or_die.h"

namespace strata::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class SecretTest : public testing::Test {
 protected:
  SecretTest() {
    std::string pattern = std::string(STRATA_BINARY_DIR) + "/tests/secret-XXXXXX";
    home_ = mkdtemp(pattern.data());
    variables_["HOME"] = home_;
  }
  ~SecretTest() override { std::filesystem::remove_all(home_); }
  Result<Secret> Find(const std::string& file = "") {
    return FindSecret(file, [this](const char* name) {
      auto found = variables_.find(name);
      return found == variables_.end() ? nullptr : found->second.c_str();
    });
  }
  std::string home_;
  std::map<std::string, std::string> variables_;
};

TEST_F(SecretTest, IsMadeOnceForThisUserAlone) {
  const Secret first = OrDie(Find());
  EXPECT_EQ(first.source, home_ + "/.config/strata/launch-secret");
  EXPECT_EQ(first.text.size(), 64u);
  struct stat facts = {};
  ASSERT_EQ(stat(first.source.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  EXPECT_EQ(OrDie(Find()).text, first.text);
}

TEST_F(SecretTest, TheVariableBeatsTheFileAndMustNotBeGuessable) {
  variables_[kSecretVariable] = "a long enough secret";
  EXPECT_EQ(OrDie(Find()).text, "a long enough secret");
  variables_[kSecretVariable] = "hunter2";
  EXPECT_THAT(Find().status().message(),
              AllOf(HasSubstr(kSecretVariable), HasSubstr("guessed"), HasSubstr("openssl")));
}

TEST_F(SecretTest, AFileThatOthersCanReadIsRefused) {
  const std::string path = home_ + "/secret";
  std::ofstream(path) << "0123456789abcdef0123\n";
  chmod(path.c_str(), 0640);
  EXPECT_THAT(Find(path).status().message(), AllOf(HasSubstr(path), HasSubstr("chmod 600")));
  chmod(path.c_str(), 0600);
  EXPECT_EQ(OrDie(Find(path)).text, "0123456789abcdef0123");
}

TEST(TokenOfJob, TakesTheSecretAndIsAnotherForEachJob) {
  const Secret secret{.text = "0123456789abcdef0123", .source = ""};
  const Secret other{.text = "0123456789abcdef0124", .source = ""};
  EXPECT_EQ(TokenOfJob(secret, "a"), TokenOfJob(secret, "a"));
  EXPECT_NE(TokenOfJob(secret, "a"), TokenOfJob(secret, "b"));
  EXPECT_NE(TokenOfJob(secret, "a"), TokenOfJob(other, "a"));
  EXPECT_EQ(TokenOfJob(secret, "a").find(secret.text), std::string::npos);
}

TEST_F(SecretTest, WithoutAHomeItSaysWhatToSet) {
  variables_.clear();
  EXPECT_THAT(Find().status().message(), HasSubstr(kSecretVariable));
}

}  // namespace
}  // namespace strata::launch
