#include "aio/bench/internal/lattice.h"

#include <algorithm>

#include "aio/base/check.h"

namespace strata::aio::bench_internal {
namespace {

// Replaces values by their ranks among the distinct ones; returns how many there are.
size_t ToRanks(std::vector<uint64_t>& values) {
  std::vector<uint64_t> distinct = values;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (uint64_t& value : values)
    value = static_cast<uint64_t>(std::lower_bound(distinct.begin(), distinct.end(), value) -
                                  distinct.begin());
  return distinct.size();
}

// `num_kept` of `num_values`, in the middles of as many equal parts.
std::vector<bool> Spread(size_t num_kept, size_t num_values) {
  std::vector<bool> kept(num_values, false);
  for (size_t k = 0; k < num_kept; ++k) kept[(2 * k + 1) * num_values / (2 * num_kept)] = true;
  return kept;
}

std::vector<bool> First(size_t num_kept, size_t num_values) {
  std::vector<bool> kept(num_values, false);
  std::fill_n(kept.begin(), num_kept, true);
  return kept;
}

// Those that poll come last.
uint64_t EngineRank(const AioSetting& setting) {
  return (setting.sqpoll ? 1000 : 0) + static_cast<uint64_t>(setting.backend);
}

}  // namespace

Lattice::Lattice(const std::vector<AioSetting>& candidates) : points_(candidates.size()) {
  std::array<std::vector<uint64_t>, kNumAxes> values;
  for (const AioSetting& setting : candidates) {
    values[kThreads].push_back(setting.thread_count);
    values[kEngine].push_back(EngineRank(setting));
    values[kDepth].push_back(setting.queue_depth);
    values[kBlock].push_back(setting.block_size_bytes);
  }
  for (size_t axis = 0; axis < kNumAxes; ++axis) {
    num_values_[axis] = ToRanks(values[axis]);
    for (size_t i = 0; i < points_.size(); ++i) points_[i][axis] = values[axis][i];
  }
}

std::vector<size_t> Lattice::PointsOn(const std::array<std::vector<bool>, kNumAxes>& kept) const {
  std::vector<size_t> points;
  for (size_t i = 0; i < points_.size(); ++i) {
    bool on = true;
    for (size_t axis = 0; axis < kNumAxes; ++axis) on = on && kept[axis][points_[i][axis]];
    if (on) points.push_back(i);
  }
  return points;
}

std::vector<size_t> Lattice::Coarse(size_t limit) const {
  STRATA_CHECK(limit > 0 && !points_.empty());
  Point num_kept = num_values_;
  std::vector<size_t> last;
  while (true) {
    std::array<std::vector<bool>, kNumAxes> kept;
    for (size_t axis = 0; axis < kNumAxes; ++axis)
      kept[axis] = (axis == kEngine ? First : Spread)(num_kept[axis], num_values_[axis]);
    std::vector<size_t> points = PointsOn(kept);
    // A list of candidates with holes may have none on a coarser grid.
    if (points.empty()) return {last.begin(), last.begin() + static_cast<ptrdiff_t>(limit)};
    if (points.size() <= limit) return points;
    last = std::move(points);
    auto widest = std::max_element(num_kept.begin(), num_kept.end());
    if (*widest == 1) return {last.begin(), last.begin() + static_cast<ptrdiff_t>(limit)};
    --*widest;
  }
}

bool Lattice::AreNeighbours(const Point& a, const Point& b) const {
  size_t axes_apart = 0;
  bool is_next = true;
  for (size_t axis = 0; axis < kNumAxes; ++axis) {
    size_t distance = std::max(a[axis], b[axis]) - std::min(a[axis], b[axis]);
    if (distance > 0) ++axes_apart;
    if (axis != kEngine && distance > 1) is_next = false;
  }
  return axes_apart == 1 && is_next;
}

std::vector<size_t> Lattice::NeighboursOf(size_t candidate) const {
  std::vector<size_t> neighbours;
  for (size_t i = 0; i < points_.size(); ++i)
    if (AreNeighbours(points_[candidate], points_[i])) neighbours.push_back(i);
  return neighbours;
}

}  // namespace strata::aio::bench_internal
