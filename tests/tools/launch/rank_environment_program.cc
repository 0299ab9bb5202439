// Prints who the engine takes this process for.
#include <cstdio>

#include "engine/comm/rank_environment.h"
#include "tests/or_die.h"

int main() {
  const strata::engine::RankEnvironment environment =
      strata::OrDie(strata::engine::ReadRankEnvironment());
  std::printf("engine: rank %u of %u, %u of %u here\n", environment.rank, environment.world_size,
              environment.local_rank.value_or(99), environment.local_size.value_or(99));
}
