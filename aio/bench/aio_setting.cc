#include "aio/bench/aio_setting.h"

#include <fmt/format.h>

#include "aio/base/units.h"

namespace strata::aio {

std::string EngineName(const AioSetting& setting) {
  return std::string(IoBackendName(setting.backend)) + (setting.sqpoll ? "+sqpoll" : "");
}

std::string DescribeSetting(const AioSetting& setting) {
  return fmt::format("{} {} x {} x {} thread{}", EngineName(setting),
                     FormatBytes(setting.block_size_bytes), setting.queue_depth,
                     setting.thread_count, setting.thread_count == 1 ? "" : "s");
}

std::string_view TrafficName(Traffic traffic) {
  switch (traffic) {
    case Traffic::kRead:
      return "read";
    case Traffic::kWrite:
      return "write";
    case Traffic::kMix:
      return "mix";
  }
  STRATA_CHECK(false);
  return "";
}

}  // namespace strata::aio
