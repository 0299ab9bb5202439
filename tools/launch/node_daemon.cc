#include "tools/launch/node_daemon.h"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <memory>

#include "aio/base/address.h"
#include "tools/launch/channel.h"
#include "tools/launch/commands.h"
#include "tools/launch/messages.h"

namespace strata::launch {
namespace {

constexpr int kRelayFailed = 255;  // as ssh

Status Refused(const std::string& why) {
  return {Code::kPermissionDenied,
          fmt::format("refused to run a command of another node: {}", why)};
}

// The parameters that mpirun 4 gives its daemons, and those that strata launch adds to mpirun.
constexpr std::array kParameters = {"orte_leave_session_attached",
                                    "ess",
                                    "ess_base_jobid",
                                    "ess_base_vpid",
                                    "ess_base_num_procs",
                                    "orte_node_regex",
                                    "orte_hnp_uri",
                                    "orte_parent_uri",
                                    "plm",
                                    "plm_rsh_no_tree_spawn",
                                    "ras",
                                    "pmix",
                                    "rmaps",
                                    "hwloc_base_binding_policy",
                                    "orte_abort_on_non_zero_status",
                                    "odls_base_sigkill_timeout",
                                    "mpi_yield_when_idle",
                                    "orte_tmpdir_base"};
// These name programs; a daemon that launches no others does without.
constexpr std::array kDroppedParameters = {"plm_rsh_agent"};

template <size_t kSize>
bool IsOneOf(const std::string& word, const std::array<const char*, kSize>& list) {
  return std::any_of(list.begin(), list.end(), [&](const char* one) { return word == one; });
}

}  // namespace

Result<std::vector<std::string>> SplitShellWords(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + " ";
  std::vector<std::string> result;
  std::string current;
  bool is_word = false;
  char quote = '\0';
  for (char c : text) {
    if (quote != '\0') {
      if (c == quote) {
        quote = '\0';
      } else if (c == '\\' || (quote == '"' && (c == '$' || c == '`'))) {
        return Refused(fmt::format("'{}' in it needs a shell", c));
      } else {
        current += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      is_word = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (is_word) result.push_back(std::exchange(current, {}));
      is_word = false;
    } else if (std::string_view("\\$`|&;<>()*?[]#~!{}").find(c) != std::string_view::npos) {
      return Refused(fmt::format("'{}' in it needs a shell", c));
    } else {
      current += c;
      is_word = true;
    }
  }
  if (quote != '\0') return Refused("a quote in it does not end");
  return result;
}

Result<std::vector<std::string>> DaemonWords(const std::vector<std::string>& shell_words) {
  STRATA_ASSIGN_OR_RETURN(const std::vector<std::string> words, SplitShellWords(shell_words));
  if (words.empty()) return Refused("it is empty");
  const std::string name = words[0].substr(words[0].rfind('/') + 1);
  if (name != "orted") return Refused(fmt::format("'{}' is not orted", words[0]));
  std::vector<std::string> result = {"orted"};
  for (size_t i = 1; i < words.size(); i += 3) {
    if ((words[i] != "-mca" && words[i] != "--mca") || i + 2 >= words.size())
      return Refused(fmt::format("'{}' is no option that mpirun gives orted", words[i]));
    if (IsOneOf(words[i + 1], kDroppedParameters)) continue;
    if (!IsOneOf(words[i + 1], kParameters))
      return Refused(fmt::format("orted's parameter '{}' is not known here", words[i + 1]));
    result.insert(result.end(), {"-mca", words[i + 1], words[i + 2]});
  }
  return result;
}

int RunDaemonRelay(const std::string& node, const std::vector<std::string>& words) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  const char* control = std::getenv(kControlVariable);
  const char* token = std::getenv(kTokenVariable);
  const std::string prefix = NodeAlias(0).substr(0, NodeAlias(0).size() - 1);
  Result<uint32_t> node_rank = node.starts_with(prefix)
                                   ? ParseNumber(std::string_view(node).substr(prefix.size()))
                                   : InvalidArgument(fmt::format("'{}' is no node", node));
  const auto fail = [&](const std::string& why) {
    fmt::print(stderr, "error: daemon for {}: {}\n", node, why);
    return kRelayFailed;
  };
  if (!node_rank.ok()) return fail(node_rank.status().message());
  if (control == nullptr || token == nullptr)
    return fail("mpirun was not started by strata launch");
  Result<Descriptor> connection = ConnectTo(control, std::chrono::seconds(5));
  if (!connection.ok()) return fail(connection.status().message());
  EventLoop loop;
  int exit_code = kRelayFailed;
  std::unique_ptr<Channel> channel;
  channel = Channel::Join(loop, *std::move(connection), ClientKind::kAgent, token,
                          {.on_open =
                               [&] {
                                 channel->Send(
                                     static_cast<char>(Message::kRunDaemon),
                                     Encode(RunDaemon{.node_rank = *node_rank, .words = words}));
                               },
                           .on_message =
                               [&](char type, std::string_view payload) {
                                 Result<DaemonEnded> ended = Decode<DaemonEnded>(payload);
                                 if (Message{type} != Message::kDaemonEnded || !ended.ok()) return;
                                 exit_code = ended->exit_code;
                                 if (!ended->text.empty()) fail(ended->text);
                                 loop.Stop();
                               },
                           .on_close =
                               [&](const Status& why) {
                                 fail(why.message());
                                 loop.Stop();
                               }});
  loop.Run();
  return exit_code;
}

}  // namespace strata::launch
