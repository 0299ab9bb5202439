#include "engine/cluster/comparison.h"

#include <fmt/format.h>

#include <algorithm>

namespace strata::engine {
namespace {

constexpr uint64_t kShortestSequence = 256;

std::vector<OffloadDevice> Devices(bool has_drives) {
  std::vector<OffloadDevice> devices = {OffloadDevice::kNone, OffloadDevice::kCpu};
  if (has_drives) devices.push_back(OffloadDevice::kNvme);
  return devices;
}

// Those that there are for such a run.
std::vector<ZeroChoice> ChoicesOf(const RunConfig& config, const Limits& limits) {
  std::vector<ZeroChoice> choices = AllChoices(!limits.nvme_paths.empty());
  std::erase_if(choices, [&](const ZeroChoice& choice) {
    return !CheckSupported(WithChoice(config, choice, limits.nvme_paths)).ok();
  });
  return choices;
}

struct Change {
  std::string text;
  RunConfig config;
};

// How far state is from the GPU: what is offloaded to save memory is not brought nearer.
bool IsFurther(const ZeroChoice& a, const ZeroChoice& b) {
  return a.stage >= b.stage && a.optimizer >= b.optimizer && a.weights >= b.weights && !(a == b);
}

std::vector<Change> Choices(const RunConfig& config, const Limits& limits) {
  std::vector<Change> changes;
  for (const ZeroChoice& choice : ChoicesOf(config, limits)) {
    if (!IsFurther(choice, ChoiceOf(config))) continue;
    changes.push_back({Describe(choice), WithChoice(config, choice, limits.nvme_paths)});
  }
  return changes;
}

// The same batch in smaller pieces.
std::vector<Change> SmallerMicroBatches(const RunConfig& config) {
  std::vector<Change> changes;
  RunConfig smaller = config;
  TrainConfig& train = smaller.train;
  while (train.train_micro_batch_size_per_gpu % 2 == 0) {
    train.train_micro_batch_size_per_gpu /= 2;
    train.gradient_accumulation_steps *= 2;
    changes.push_back(
        {fmt::format("micro-batches of {} ({} of them)", train.train_micro_batch_size_per_gpu,
                     train.gradient_accumulation_steps),
         smaller});
  }
  return changes;
}

std::vector<Change> Recomputing(const RunConfig& config) {
  if (config.train.recompute != Recompute::kNone) return {};
  RunConfig recomputing = config;
  recomputing.train.recompute = Recompute::kAuto;
  return {{"recompute activations", recomputing}};
}

std::vector<Change> ShorterSequences(const RunConfig& config) {
  std::vector<Change> changes;
  RunConfig shorter = config;
  while (shorter.data.seq_len / 2 >= kShortestSequence) {
    shorter.data.seq_len /= 2;
    changes.push_back({fmt::format("sequences of {} tokens", shorter.data.seq_len), shorter});
  }
  return changes;
}

class Adviser {
 public:
  Adviser(const prefetch::Hardware& hardware, const Limits& limits)
      : hardware_(hardware), limits_(limits) {}

  // Keeps the changes that fit; only the first of them when they are ever stronger.
  Status Try(const std::vector<Change>& changes, bool first_only) {
    for (const Change& change : changes) {
      STRATA_ASSIGN_OR_RETURN(bool fits, Fits(change.config, limits_.nvme_capacity_bytes));
      if (!fits) continue;
      STRATA_ASSIGN_OR_RETURN(PlanOutcome outcome,
                              TryPlan(change.config, hardware_, limits_.nvme_capacity_bytes));
      if (!outcome.fits()) continue;
      advice_.push_back({change.text, change.config, std::move(outcome)});
      if (first_only) break;
    }
    return OkStatus();
  }

  bool empty() const { return advice_.empty(); }

  std::vector<Advice> Take() && {
    std::ranges::stable_sort(advice_, [](const Advice& a, const Advice& b) {
      return a.outcome.tokens_per_s > b.outcome.tokens_per_s;
    });
    return std::move(advice_);
  }

 private:
  const prefetch::Hardware& hardware_;
  const Limits& limits_;
  std::vector<Advice> advice_;
};

// Each further choice with each smaller micro-batch, then with shorter sequences, too.
Status TryTogether(const RunConfig& config, const Limits& limits, Adviser& adviser) {
  std::vector<Change> choices = Choices(config, limits);
  choices.push_back({"", config});
  for (const Change& choice : choices) {
    std::vector<Change> both = SmallerMicroBatches(choice.config);
    for (const Change& shorter :
         ShorterSequences(both.empty() ? choice.config : both.back().config)) {
      both.push_back(
          {both.empty() ? shorter.text : both.back().text + ", " + shorter.text, shorter.config});
    }
    for (Change& change : both) {
      if (!choice.text.empty()) change.text = choice.text + ", " + change.text;
    }
    STRATA_RETURN_IF_ERROR(adviser.Try(both, /*first_only=*/true));
  }
  return OkStatus();
}

}  // namespace

std::vector<ZeroChoice> AllChoices(bool has_drives) {
  std::vector<ZeroChoice> choices = {{.stage = 0}};
  for (uint64_t stage : {1, 2, 3}) {
    for (OffloadDevice optimizer : Devices(has_drives)) {
      if (stage < 3) choices.push_back({.stage = stage, .optimizer = optimizer});
      if (stage < 3) continue;
      for (OffloadDevice weights : Devices(has_drives)) {
        choices.push_back({.stage = stage, .optimizer = optimizer, .weights = weights});
      }
    }
  }
  return choices;
}

Result<std::vector<PlanOutcome>> Compare(const RunConfig& config,
                                         const prefetch::Hardware& hardware, const Limits& limits) {
  std::vector<PlanOutcome> outcomes;
  for (const ZeroChoice& choice : ChoicesOf(config, limits)) {
    STRATA_ASSIGN_OR_RETURN(PlanOutcome outcome,
                            TryPlan(WithChoice(config, choice, limits.nvme_paths), hardware,
                                    limits.nvme_capacity_bytes));
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

Result<std::vector<Advice>> AdviseOn(const RunConfig& config, const prefetch::Hardware& hardware,
                                     const Limits& limits) {
  Adviser adviser(hardware, limits);
  STRATA_RETURN_IF_ERROR(adviser.Try(Choices(config, limits), /*first_only=*/false));
  STRATA_RETURN_IF_ERROR(adviser.Try(Recomputing(config), /*first_only=*/true));
  STRATA_RETURN_IF_ERROR(adviser.Try(SmallerMicroBatches(config), /*first_only=*/true));
  STRATA_RETURN_IF_ERROR(adviser.Try(ShorterSequences(config), /*first_only=*/true));
  if (adviser.empty()) STRATA_RETURN_IF_ERROR(TryTogether(config, limits, adviser));
  return std::move(adviser).Take();
}

}  // namespace strata::engine
