#include "tests/engine/train/mortal_job.h"

#include <cstdlib>
#include <utility>

#include "tests/fakes/child.h"
#include "tests/fakes/mortality.h"

namespace strata::engine {

Life LiveFor(uint64_t num_moments, const std::function<uint64_t()>& train) {
  fakes::Child child([&](const fakes::Child::Report& report) {
    const uint64_t born_at = fakes::NumMoments();
    fakes::LiveFor(num_moments);
    report(train());
    report(fakes::NumMoments() - born_at);
  });
  Life life;
  life.state_hash = child.Next().value_or(0);
  life.num_moments = child.Next().value_or(0);
  while (child.Next()) continue;
  life.ended_well = child.EndedWell();
  return life;
}

Result<std::unique_ptr<aio::IoEngine>> CreateMortalEngine(const aio::IoEngineOptions& real) {
  STRATA_ASSIGN_OR_RETURN(std::unique_ptr<aio::IoEngine> engine, aio::IoEngine::Create(real));
  return fakes::MakeMortal(std::move(engine));
}

uint64_t NumDeaths() {
  const char* text = getenv("STRATA_DEATHS");
  return text == nullptr ? 12 : strtoull(text, nullptr, 10);
}

}  // namespace strata::engine
