// The candidates as points of a grid: which of them to try first, and who is whose neighbour.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "aio/bench/aio_setting.h"

namespace strata::aio::bench_internal {

class Lattice {
 public:
  explicit Lattice(const std::vector<AioSetting>& candidates);

  size_t size() const { return points_.size(); }

  // At most `limit` candidates, spread evenly: all of them, or those on fewer and fewer values of
  // the axis that has most (of equals: engine, then threads, then depth, then block size). Of the
  // engines the first remain; the others come in as neighbours.
  std::vector<size_t> Coarse(size_t limit) const;

  // Candidates that differ on one axis, by the next value there is on it; every engine is next to
  // every other.
  std::vector<size_t> NeighboursOf(size_t candidate) const;

 private:
  enum Axis : size_t { kEngine, kThreads, kDepth, kBlock, kNumAxes };
  using Point = std::array<size_t, kNumAxes>;  // the ranks of its values

  std::vector<size_t> PointsOn(const std::array<std::vector<bool>, kNumAxes>& kept) const;
  bool AreNeighbours(const Point& a, const Point& b) const;

  Point num_values_ = {};
  std::vector<Point> points_;
};

}  // namespace strata::aio::bench_internal
