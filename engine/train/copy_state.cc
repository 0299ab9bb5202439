#include "engine/train/copy_state.h"

#include "engine/train/checkpointer.h"
#include "engine/train/state_writer.h"

namespace strata::engine {

Status CopyState(const RunStateParts& parts, SavedState& saved, const std::string& what,
                 StateAccess& access) {
  const StateLayout& layout = parts.run->layout;
  const uint64_t total = layout.size_bytes();
  uint64_t done = 0;
  StateWriter writer(access);
  for (uint32_t i = 0; i < layout.blocks.size(); ++i) {
    const StateBlock& block = layout.blocks[i];
    const uint64_t first = FirstElementOf(layout, block, parts.communicator->rank());
    STRATA_RETURN_IF_ERROR(writer.Write(i, [&](StateAccess::Bytes content) {
      return saved.Read(block.unit, block.kind, first, block.num_elements, content);
    }));
    parts.observer->OnProgress(what, done += block.size_bytes(), total);
  }
  return writer.Finish();
}

Status CommitCopiedState(const RunStateParts& parts, const RunProgress& progress, RunState& state) {
  RunConfig config = parts.run->config;
  config.checkpoint.keep_last = 0;
  return Checkpointer(config, parts.run->commits_every_step, {}, *parts.directory, *state.store,
                      *state.behind, *parts.communicator)
      .AfterStep(MakeRunRecord(config, parts.data_fingerprint, progress),
                 Checkpointer::Force::kYes);
}

}  // namespace strata::engine
