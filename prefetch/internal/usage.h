// How full a tier is at its fullest, and of what.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

namespace strata::prefetch::internal {

class Usage {
 public:
  void Add(const std::string& purpose, uint64_t offset_bytes, uint64_t size_bytes) {
    by_purpose_[purpose] += size_bytes;
    used_bytes_ += size_bytes;
    highest_end_bytes_ = std::max(highest_end_bytes_, offset_bytes + size_bytes);
    if (used_bytes_ <= peak_bytes_) return;
    peak_bytes_ = used_bytes_;
    peak_by_purpose_ = by_purpose_;
  }
  void Remove(const std::string& purpose, uint64_t size_bytes) {
    auto entry = by_purpose_.find(purpose);
    entry->second -= size_bytes;
    if (entry->second == 0) by_purpose_.erase(entry);
    used_bytes_ -= size_bytes;
  }

  uint64_t highest_end_bytes() const { return highest_end_bytes_; }
  const std::map<std::string, uint64_t>& peak_by_purpose() const { return peak_by_purpose_; }

 private:
  std::map<std::string, uint64_t> by_purpose_;
  std::map<std::string, uint64_t> peak_by_purpose_;
  uint64_t used_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
  uint64_t highest_end_bytes_ = 0;
};

}  // namespace strata::prefetch::internal
