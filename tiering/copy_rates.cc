#include "tiering/copy_rates.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>

namespace strata::tiering {
namespace {

constexpr size_t kRounds = 5;

// The median, after one round that does not count.
Result<double> MedianSeconds(const std::function<Result<double>()>& round) {
  STRATA_RETURN_IF_ERROR(round().status());
  std::array<double, kRounds> seconds{};
  for (double& one : seconds) {
    STRATA_ASSIGN_OR_RETURN(one, round());
  }
  std::ranges::sort(seconds);
  return seconds[kRounds / 2];
}

double Seconds(const DeviceEvent& begin, const DeviceEvent& end) {
  // Two clocks meet in the times of events: a copy took some time, whatever they say.
  return std::max(std::chrono::duration<double>(end.time() - begin.time()).count(), 1e-9);
}

}  // namespace

Result<CopyRates> MeasureCopyRates(Device& device, std::span<std::byte> host) {
  const size_t size = std::min(device.memory().size(), host.size()) / 2;
  STRATA_CHECK(size > 0);
  const auto device_in = device.memory().first(size), device_out = device.memory().last(size);
  const auto host_in = host.first(size), host_out = host.last(size);
  const auto in = device.CreateStream("copies in"), out = device.CreateStream("copies out");
  CopyRates rates;
  STRATA_ASSIGN_OR_RETURN(const double in_s, MedianSeconds([&]() -> Result<double> {
                            const DeviceEvent begin = in->Record();
                            in->CopyIn(device_in, host_in);
                            const DeviceEvent end = in->Record();
                            STRATA_RETURN_IF_ERROR(end.Wait());
                            return Seconds(begin, end);
                          }));
  STRATA_ASSIGN_OR_RETURN(const double out_s, MedianSeconds([&]() -> Result<double> {
                            const DeviceEvent begin = out->Record();
                            out->CopyOut(host_out, device_out);
                            const DeviceEvent end = out->Record();
                            STRATA_RETURN_IF_ERROR(end.Wait());
                            return Seconds(begin, end);
                          }));
  STRATA_ASSIGN_OR_RETURN(const double both_s, MedianSeconds([&]() -> Result<double> {
                            const DeviceEvent begin = in->Record();
                            out->WaitFor(begin);
                            in->CopyIn(device_in, host_in);
                            out->CopyOut(host_out, device_out);
                            const DeviceEvent in_end = in->Record(), out_end = out->Record();
                            STRATA_RETURN_IF_ERROR(in_end.Wait());
                            STRATA_RETURN_IF_ERROR(out_end.Wait());
                            return std::max(Seconds(begin, in_end), Seconds(begin, out_end));
                          }));
  const double bytes = static_cast<double>(size);
  return CopyRates{bytes / in_s, bytes / out_s, 2 * bytes / both_s};
}

}  // namespace strata::tiering
