#include <gtest/gtest.h>

#include <random>
#include <string>

#include "engine/config/aio_section.h"
#include "tests/engine/config/minimal_config.h"

namespace strata::engine {
namespace {

// One small damage: a byte changed, removed or put in, or a stretch copied elsewhere.
void Damage(std::string& text, std::mt19937_64& random) {
  constexpr std::string_view kTelling = "[]{}=\".,#'\n\\_-+0x9e:T \xc3\xff";
  auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  size_t at = below(text.size());
  char byte = below(4) == 0 ? static_cast<char>(random()) : kTelling[below(kTelling.size())];
  switch (below(4)) {
    case 0:
      text[at] = byte;
      break;
    case 1:
      text.erase(at, 1 + below(4));
      break;
    case 2:
      text.insert(at, 1, byte);
      break;
    default:
      text.insert(at, text.substr(below(text.size()), below(32)));
  }
}

TEST(ConfigFuzz, DamagedConfigsAreErrorsOrRunsButNeverACrash) {
  std::mt19937_64 random(20240607);
  std::string resolved = ToToml(MinimalWith({"hardware.cores=2", "model.rope_scaling.factor=8"}));
  int num_refused = 0;
  constexpr int kRounds = 4000;
  for (int round = 0; round < kRounds; ++round) {
    std::string text = resolved;
    for (uint64_t damages = 1 + random() % 4; damages > 0 && !text.empty(); --damages)
      Damage(text, random);
    Result<RunConfig> config = ParseRunConfig(text, "/etc/strata/run.toml");
    if (!config.ok()) {
      EXPECT_FALSE(config.status().message().empty());
      ++num_refused;
      continue;
    }
    Result<RunConfig> again = ParseRunConfig(ToToml(*config), "/etc/strata/run.toml");
    ASSERT_TRUE(again.ok()) << again.status().message() << "\nfrom:\n" << text;
    EXPECT_EQ(*again, *config) << text;
  }
  EXPECT_GT(num_refused, kRounds / 4);
  EXPECT_LT(num_refused, kRounds);
}

TEST(ConfigFuzz, DamagedOverridesAreErrorsOrRunsButNeverACrash) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string text = "optimizer.betas=[0.9, 0.95]";
    for (uint64_t damages = 1 + random() % 4; damages > 0 && !text.empty(); --damages)
      Damage(text, random);
    Result<RunConfig> config = ParseMinimal({text});
    EXPECT_TRUE(config.ok() || !config.status().message().empty());
  }
}

TEST(ConfigFuzz, WritingADamagedSectionIsAnErrorOrTheSameAsWritingItTwice) {
  std::mt19937_64 random(11);
  constexpr AioSection kSection = {.backend = aio::IoBackend::kPosix,
                                   .block_size_bytes = 65536,
                                   .queue_depth = 3,
                                   .thread_count = 2,
                                   .sqpoll = true};
  const std::string whole =
      "aio.x = 1\n[aio] # \xc3\xbc\nblock_size = \"1MiB\" # c\nqueue_depth = 0x10\n\n"
      "[aio.sub]\r\ny = {a = [1, 2]}\n[memory]\nhost = 'a'\n";
  int edited = 0;
  for (int round = 0; round < 6000; ++round) {
    // The dotted key and the header cannot stand together: each has its half of the rounds.
    std::string text = round % 2 == 0 ? whole.substr(10) : whole;
    if (round % 2 == 1) text.erase(10, text.find("[memory]") - 10);
    for (uint64_t damages = random() % 4; damages > 0 && !text.empty(); --damages)
      Damage(text, random);
    Result<std::string> once = WithAioSection(text, "run.toml", kSection, "");
    if (!once.ok()) continue;
    ++edited;
    Result<std::string> twice = WithAioSection(*once, "run.toml", kSection, "");
    ASSERT_TRUE(twice.ok()) << twice.status().message() << "\nfrom:\n" << text;
    EXPECT_EQ(*twice, *once) << "from:\n" << text;
  }
  EXPECT_GT(edited, 1500);
}

}  // namespace
}  // namespace strata::engine
