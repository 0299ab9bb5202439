#include "engine/train/first_state.h"

#include "engine/model/units.h"
#include "engine/train/portable_checkpoint.h"
#include "engine/train/run_record.h"

namespace strata::engine {

Status FirstStateSource::Open(const RunConfig& config, uint64_t data_fingerprint) {
  if (weights_ != nullptr || checkpoint_ != nullptr) return OkStatus();
  if (is_checkpoint()) return OpenCheckpoint(config, data_fingerprint);
  if (config.model.weights.empty()) {
    weights_ = MakeRandomWeights(config.model.init_seed, config.model.llama.initializer_range);
    return OkStatus();
  }
  STRATA_ASSIGN_OR_RETURN(
      weights_, OpenHuggingFaceWeights(config.model.weights, UnitsOf(config.model.llama)));
  return OkStatus();
}

Status FirstStateSource::OpenCheckpoint(const RunConfig& config, uint64_t data_fingerprint) {
  constexpr uint32_t kNumPages = 4;  // it is copied in order, one kind at a time
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<SavedState> state,
                          OpenPortableState(from_, config, kNumPages).With("--from"));
  const RunRecord& record = state->record();
  STRATA_RETURN_IF_ERROR(
      CheckResumable(record, MakeRunRecord(config, data_fingerprint, record.progress))
          .With("--from " + from_));
  checkpoint_ = std::move(state);
  return OkStatus();
}

void FirstStateSource::Close() {
  weights_.reset();
  checkpoint_.reset();
}

std::string FirstStateSource::Name(const RunConfig& config) const {
  if (is_checkpoint()) return from_;
  return config.model.weights.empty() ? "random weights" : config.model.weights;
}

}  // namespace strata::engine
