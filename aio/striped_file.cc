#include "aio/striped_file.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "aio/base/check.h"

namespace strata::aio {
namespace {

constexpr uint32_t kMaxRound = 64;

double WorstError(std::span<const double> shares, std::span<const uint32_t> counts) {
  double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double worst = 0;
  for (size_t i = 0; i < shares.size(); ++i)
    worst = std::max(worst, std::abs(counts[i] / total - shares[i]) / shares[i]);
  return worst;
}

std::vector<uint32_t> Rounded(std::span<const double> shares, uint32_t round) {
  std::vector<uint32_t> counts;
  for (double share : shares)
    counts.push_back(std::max(1u, static_cast<uint32_t>(std::lround(share * round))));
  return counts;
}

}  // namespace

// The shortest round that is about as true as any: a short one spreads a transfer more evenly.
std::vector<uint32_t> StripesPerRound(std::span<const double> weights) {
  STRATA_CHECK(!weights.empty() && weights.size() <= kMaxRound);
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> shares;
  for (double weight : weights) {
    STRATA_CHECK(weight > 0 && std::isfinite(weight));
    shares.push_back(weight / total);
  }
  constexpr double kGoodEnough = 0.02;
  std::vector<uint32_t> best = Rounded(shares, static_cast<uint32_t>(shares.size()));
  for (uint32_t round = static_cast<uint32_t>(shares.size()) + 1; round <= kMaxRound; ++round) {
    if (WorstError(shares, best) <= kGoodEnough) break;
    std::vector<uint32_t> counts = Rounded(shares, round);
    uint32_t stripes = std::accumulate(counts.begin(), counts.end(), 0u);
    if (stripes <= kMaxRound && WorstError(shares, counts) < WorstError(shares, best))
      best = std::move(counts);
  }
  uint32_t divisor = 0;
  for (uint32_t count : best) divisor = std::gcd(divisor, count);
  for (uint32_t& count : best) count /= divisor;
  return best;
}

// The next stripe goes to the file that lags most behind its share of what was dealt out.
StripeLayout::StripeLayout(uint64_t stripe_bytes, std::vector<uint32_t> stripes_per_round)
    : stripe_bytes_(stripe_bytes), counts_(std::move(stripes_per_round)) {
  STRATA_CHECK(stripe_bytes > 0 && !counts_.empty());
  int64_t total = 0;
  for (uint32_t count : counts_) {
    STRATA_CHECK(count > 0);
    total += count;
  }
  std::vector<int64_t> lag(counts_.size(), 0);
  std::vector<uint32_t> dealt(counts_.size(), 0);
  for (int64_t turn = 0; turn < total; ++turn) {
    for (size_t file = 0; file < counts_.size(); ++file) lag[file] += counts_[file];
    size_t next = static_cast<size_t>(std::max_element(lag.begin(), lag.end()) - lag.begin());
    lag[next] -= total;
    round_.push_back({.file = next, .nth = dealt[next]++});
  }
}

StripeLayout::Extent StripeLayout::ExtentAt(uint64_t offset_bytes, uint64_t limit_bytes) const {
  uint64_t stripe = offset_bytes / stripe_bytes_;
  uint64_t within_bytes = offset_bytes % stripe_bytes_;
  const Turn& turn = round_[stripe % round_.size()];
  uint64_t file_stripe = stripe / round_.size() * counts_[turn.file] + turn.nth;
  return {.file = turn.file,
          .offset_bytes = file_stripe * stripe_bytes_ + within_bytes,
          .length_bytes = std::min(stripe_bytes_ - within_bytes, limit_bytes)};
}

std::vector<StripeLayout::Extent> StripeLayout::Map(uint64_t offset_bytes,
                                                    uint64_t length_bytes) const {
  if (counts_.size() == 1 && length_bytes > 0) return {{0, offset_bytes, length_bytes}};
  std::vector<Extent> extents;
  while (length_bytes > 0) {
    Extent extent = ExtentAt(offset_bytes, length_bytes);
    offset_bytes += extent.length_bytes;
    length_bytes -= extent.length_bytes;
    Extent* last = extents.empty() ? nullptr : &extents.back();
    if (last != nullptr && last->file == extent.file &&
        last->offset_bytes + last->length_bytes == extent.offset_bytes) {
      last->length_bytes += extent.length_bytes;
    } else {
      extents.push_back(extent);
    }
  }
  return extents;
}

uint64_t StripeLayout::FileBytes(size_t file, uint64_t size_bytes) const {
  uint64_t stripes = size_bytes / stripe_bytes_;
  uint64_t bytes = stripes / round_.size() * counts_[file] * stripe_bytes_;
  for (uint64_t turn = 0; turn < stripes % round_.size(); ++turn) {
    if (round_[turn].file == file) bytes += stripe_bytes_;
  }
  bool has_the_rest = round_[stripes % round_.size()].file == file;
  return has_the_rest ? bytes + size_bytes % stripe_bytes_ : bytes;
}

// Ends where the first byte would lie that the file has no room for.
uint64_t StripeLayout::SizeThatFits(size_t file, uint64_t file_bytes) const {
  uint64_t file_stripe = file_bytes / stripe_bytes_;
  uint64_t nth = file_stripe % counts_[file];
  uint64_t turn = 0;
  while (round_[turn].file != file || round_[turn].nth != nth) ++turn;
  uint64_t stripe = file_stripe / counts_[file] * round_.size() + turn;
  return stripe * stripe_bytes_ + file_bytes % stripe_bytes_;
}

StripedFile::StripedFile(std::vector<File> files, StripeLayout layout)
    : files_(std::move(files)), layout_(std::move(layout)) {
  STRATA_CHECK(files_.size() == layout_.stripes_per_round().size());
}

std::vector<ReadRange> StripedFile::Reads(uint64_t offset_bytes, std::span<std::byte> into) const {
  std::vector<ReadRange> ranges;
  uint64_t at = 0;
  for (const StripeLayout::Extent& extent : layout_.Map(offset_bytes, into.size())) {
    ranges.push_back({.file = &files_[extent.file],
                      .offset_bytes = extent.offset_bytes,
                      .into = into.subspan(at, extent.length_bytes)});
    at += extent.length_bytes;
  }
  return ranges;
}

std::vector<WriteRange> StripedFile::Writes(uint64_t offset_bytes,
                                            std::span<const std::byte> from) const {
  std::vector<WriteRange> ranges;
  uint64_t at = 0;
  for (const StripeLayout::Extent& extent : layout_.Map(offset_bytes, from.size())) {
    ranges.push_back({.file = &files_[extent.file],
                      .offset_bytes = extent.offset_bytes,
                      .from = from.subspan(at, extent.length_bytes)});
    at += extent.length_bytes;
  }
  return ranges;
}

}  // namespace strata::aio
