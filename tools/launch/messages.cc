#include "tools/launch/messages.h"

#include <nlohmann/json.hpp>

namespace strata::launch {
namespace {

using nlohmann::json;

// One list of fields for both directions: visit(name, field).
template <typename Visit>
void VisitFields(RankStarted& m, Visit visit) {
  visit("rank", m.rank);
  visit("host", m.host);
  visit("pid", m.pid);
  visit("binding", m.binding);
  visit("log", m.log);
}
template <typename Visit>
void VisitFields(RankEnded& m, Visit visit) {
  visit("exit_code", m.ending.exit_code);
  visit("signal", m.ending.signal_number);
  visit("error", m.error);
  visit("was_stopped", m.was_stopped);
}
template <typename Visit>
void VisitFields(RunDaemon& m, Visit visit) {
  visit("node_rank", m.node_rank);
  visit("words", m.words);
}
template <typename Visit>
void VisitFields(StartRanks& m, Visit visit) {
  visit("layout", m.layout);
  visit("nonce", m.nonce);
  visit("comm_port", m.comm_port);
}
template <typename Visit>
void VisitFields(DaemonEnded& m, Visit visit) {
  visit("node_rank", m.node_rank);
  visit("exit_code", m.exit_code);
  visit("text", m.text);
}
template <typename Visit>
void VisitFields(NodeHello& m, Visit visit) {
  visit("job_id", m.job_id);
  visit("node_rank", m.node_rank);
  visit("nnodes", m.nnodes);
  visit("num_slots", m.num_slots);
  visit("host", m.host);
  visit("boot_id", m.boot_id);
  visit("version", m.version);
  visit("program_hash", m.program_hash);
  visit("command", m.command);
  visit("config_hash", m.config_hash);
  visit("num_cores", m.num_cores);
  visit("comm", m.comm);
}
template <typename Visit>
void VisitFields(JobEnded& m, Visit visit) {
  visit("exit_code", m.exit_code);
  visit("text", m.text);
}

template <typename T>
std::string EncodeFields(const T& message) {
  json object = json::object();
  T copy = message;
  VisitFields(copy, [&](const char* name, const auto& field) { object[name] = field; });
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::string Encode(const RankStarted& message) { return EncodeFields(message); }
std::string Encode(const RankEnded& message) { return EncodeFields(message); }
std::string Encode(const RunDaemon& message) { return EncodeFields(message); }
std::string Encode(const StartRanks& message) { return EncodeFields(message); }
std::string Encode(const DaemonEnded& message) { return EncodeFields(message); }
std::string Encode(const NodeHello& message) { return EncodeFields(message); }
std::string Encode(const JobEnded& message) { return EncodeFields(message); }

template <typename T>
Result<T> Decode(std::string_view text) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return DataLoss("not a message of a launcher");
  T message;
  // The only thing here that throws is a field of another type.
  try {
    VisitFields(message, [&](const char* name, auto& field) { object.at(name).get_to(field); });
  } catch (const json::exception& error) {
    return DataLoss(error.what());
  }
  return message;
}

template Result<RankStarted> Decode<RankStarted>(std::string_view);
template Result<RankEnded> Decode<RankEnded>(std::string_view);
template Result<RunDaemon> Decode<RunDaemon>(std::string_view);
template Result<StartRanks> Decode<StartRanks>(std::string_view);
template Result<DaemonEnded> Decode<DaemonEnded>(std::string_view);
template Result<NodeHello> Decode<NodeHello>(std::string_view);
template Result<JobEnded> Decode<JobEnded>(std::string_view);

}  // namespace strata::launch
