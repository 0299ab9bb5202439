#include "prefetch/trace.h"

#include <fmt/format.h>

#include <unordered_set>

namespace strata::prefetch {
namespace {

Status ValidateBlocks(const std::vector<TraceBlock>& blocks) {
  std::unordered_set<std::string_view> names;
  for (const TraceBlock& block : blocks) {
    if (block.size_bytes == 0)
      return InvalidArgument(fmt::format(
          "trace block '{}' has no bytes: leave it out, or give it a size", block.name));
    if (!names.insert(block.name).second)
      return InvalidArgument(fmt::format(
          "two trace blocks are named '{}': every block needs a name of its own", block.name));
  }
  return OkStatus();
}

// Walks the ops in order; knows which step blocks have been written so far.
class OpChecker {
 public:
  explicit OpChecker(const Trace& trace)
      : trace_(trace),
        written_(trace.blocks.size(), false),
        last_op_(trace.blocks.size(), SIZE_MAX) {}

  Status Check(size_t op_index) {
    const TraceOp& op = trace_.ops[op_index];
    if (op.lane != Lane::kCompute && op.lane != Lane::kComm && op.lane != Lane::kCpu)
      return InvalidArgument(
          fmt::format("trace op '{}' is on lane {}: ops run on compute, comm "
                      "or cpu, transfers are planned by Compile()",
                      op.name, LaneName(op.lane)));
    for (const Access& access : op.accesses) STRATA_RETURN_IF_ERROR(CheckAccess(op_index, access));
    return OkStatus();
  }

 private:
  Status CheckAccess(size_t op_index, const Access& access) {
    const TraceOp& op = trace_.ops[op_index];
    size_t block = Index(access.block);
    if (block >= trace_.blocks.size())
      return InvalidArgument(fmt::format("trace op '{}' uses block {}, but there are only {}",
                                         op.name, block, trace_.blocks.size()));
    const TraceBlock& description = trace_.blocks[block];
    if (last_op_[block] == op_index)
      return InvalidArgument(
          fmt::format("trace op '{}' uses block '{}' twice: give one access with the stronger mode",
                      op.name, description.name));
    last_op_[block] = op_index;
    if (description.lifetime == Lifetime::kStep && !written_[block] &&
        access.mode != AccessMode::kWrite)
      return InvalidArgument(
          fmt::format("trace op '{}' reads step block '{}' before anything wrote it: its first "
                      "access must be kWrite",
                      op.name, description.name));
    if (access.mode != AccessMode::kRead) written_[block] = true;
    return OkStatus();
  }

  const Trace& trace_;
  std::vector<bool> written_;
  std::vector<size_t> last_op_;
};

}  // namespace

Status Trace::Validate() const {
  STRATA_RETURN_IF_ERROR(ValidateBlocks(blocks));
  OpChecker checker(*this);
  for (size_t op = 0; op < ops.size(); ++op) STRATA_RETURN_IF_ERROR(checker.Check(op));
  return OkStatus();
}

}  // namespace strata::prefetch
