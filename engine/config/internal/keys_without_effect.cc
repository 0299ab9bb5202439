#include "engine/config/internal/keys_without_effect.h"

namespace strata::engine::config_internal {
namespace {

using enum ValueKind;

constexpr std::string_view kUnits =
    "collectives take a unit of the model at once (an attention, an mlp or a part of one: [model] "
    "part_size)";
constexpr std::string_view kPlan =
    "the step plan says ahead what is fetched, kept and let go within the budgets; prefetch_ops "
    "sets how far ahead";
constexpr std::string_view kSmall =
    "a norm's weights are part of the unit behind it and come with its one gather, so keeping them "
    "saves no collective";
constexpr std::string_view kArena = "one arena of [memory] host holds all buffers, pinned";
constexpr std::string_view kPipeline = "reads, updates and writes always overlap";

constexpr std::array kZero = {
    KeyWithoutEffect{"contiguous_gradients", kFlag, "a unit's gradient is always one piece"},
    KeyWithoutEffect{"reduce_scatter", kFlag, "the stage says which collective is used"},
    KeyWithoutEffect{"reduce_bucket_size", kNumber, kUnits},
    KeyWithoutEffect{"use_multi_rank_bucket_allreduce", kFlag, kUnits},
    KeyWithoutEffect{"allgather_partitions", kFlag, "updated weights are always gathered"},
    KeyWithoutEffect{"allgather_bucket_size", kNumber, kUnits},
    KeyWithoutEffect{"overlap_comm", kFlag,
                     "collectives have a lane of their own and always overlap with computing"},
    KeyWithoutEffect{"round_robin_gradients", kFlag, "every rank owns a part of every unit"},
    KeyWithoutEffect{"sub_group_size", kNumber,
                     "the optimizer takes 1 to 16 Mi elements of a rank's part at once, an eighth "
                     "of a unit's where that is in between"},
    KeyWithoutEffect{
        "stage3_prefetch_bucket_size", kNumber,
        "prefetch_ops says how far ahead weights are gathered, in operations; \"auto\" "
        "takes what makes the shortest step"},
    KeyWithoutEffect{"stage3_param_persistence_threshold", kNumber, kSmall},
    KeyWithoutEffect{"stage3_model_persistence_threshold", kNumber, kSmall},
    KeyWithoutEffect{
        "stage3_max_live_parameters", kNumber,
        "gathered weights have their place in [memory] device, in bytes, and are let go "
        "after the operation that uses them"},
    KeyWithoutEffect{"stage3_max_reuse_distance", kNumber, kPlan},
    KeyWithoutEffect{"stage3_gather_16bit_weights_on_model_save", kFlag,
                     "'strata export' writes whole weights of any run"},
    KeyWithoutEffect{"stage3_module_granularity_threshold", kNumber, kUnits},
    KeyWithoutEffect{"stage3_use_all_reduce_for_fetch_params", kFlag,
                     "weights are fetched by all-gathers"},
    KeyWithoutEffect{"stage3_allgather_sequential", kFlag, kPlan},
    KeyWithoutEffect{"ignore_unused_parameters", kFlag, "a model uses all its parameters"},
    KeyWithoutEffect{"memory_efficient_linear", kFlag,
                     "backward always gathers weights again, never keeps them"},
};

constexpr std::array kOffload = {
    KeyWithoutEffect{"pin_memory", kFlag, kArena},
    KeyWithoutEffect{"buffer_count", kNumber, kArena},
    KeyWithoutEffect{"buffer_size", kNumber, kArena},
    KeyWithoutEffect{"max_in_cpu", kNumber, kPlan},
    KeyWithoutEffect{"pipeline_read", kFlag, kPipeline},
    KeyWithoutEffect{"pipeline_write", kFlag, kPipeline},
    KeyWithoutEffect{"fast_init", kFlag, "the first state is written as it is made"},
};

}  // namespace

std::span<const KeyWithoutEffect> ZeroKeysWithoutEffect() { return kZero; }
std::span<const KeyWithoutEffect> OffloadKeysWithoutEffect() { return kOffload; }

}  // namespace strata::engine::config_internal
