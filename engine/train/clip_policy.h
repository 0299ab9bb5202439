// Whether a step is worth the guess that nothing will be clipped.
#pragma once

#include <cstdint>

namespace strata::engine {

// Guesses so until a step is clipped; then not before `calm_steps` steps in a row were not.
// The rule and what it costs: docs/step-plan.md.
class ClipPolicy {
 public:
  explicit ClipPolicy(uint32_t calm_steps) : calm_steps_(calm_steps) {}

  bool speculates() const { return speculates_; }
  // After each step.
  void Observe(bool clipped) {
    calm_so_far_ = clipped ? 0 : calm_so_far_ + 1;
    speculates_ = !clipped && (speculates_ || calm_so_far_ >= calm_steps_);
  }

 private:
  uint32_t calm_steps_;
  uint32_t calm_so_far_ = 0;
  bool speculates_ = true;
};

}  // namespace strata::engine
