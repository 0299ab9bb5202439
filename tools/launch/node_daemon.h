// What may be run on a node in another's name: mpirun's daemon, and nothing else.
#pragma once

#include <string>
#include <vector>

#include "aio/base/status.h"

namespace strata::launch {

// The words of a command that mpirun made for a remote shell, without its quotes. No shell is
// asked: what only a shell could do (variables, redirections, several commands) is refused.
Result<std::vector<std::string>> SplitShellWords(const std::vector<std::string>& words);

// kPermissionDenied unless the words are `orted` with its options for a job: the program is found
// on this node's own PATH, whatever folder the words name; nothing may say what else to run.
Result<std::vector<std::string>> DaemonWords(const std::vector<std::string>& shell_words);

// mpirun's "remote shell": hands the command for `node` to the launcher that started mpirun, waits
// for its end there, exits with its code.
int RunDaemonRelay(const std::string& node, const std::vector<std::string>& words);

}  // namespace strata::launch
