#include "tools/launch_command_line.h"

#include <string_view>

#include "tools/launch/commands.h"
#include "tools/launch/node_daemon.h"
#include "tools/run_needs.h"

namespace strata::tools {
namespace {

void AddPlaces(CLI::App& command, launch::Arguments& arguments) {
  command.add_option("--nproc-per-node", arguments.nproc_per_node,
                     "ranks on each node (NPROC_PER_NODE); default 1, of a hostfile all its slots");
  command.add_option("--nnodes", arguments.nnodes, "nodes (NNODES); default 1");
  command.add_option("--node-rank", arguments.node_rank,
                     "which node this is (NODE_RANK): run this command on every node");
  command.add_option("--master-addr", arguments.master_addr,
                     "name or address of node 0 (MASTER_ADDR)");
  command.add_option("--master-port", arguments.master_port,
                     "a free port there (MASTER_PORT); default 29500");
  command
      .add_option("--comm", arguments.comm,
                  "how ranks find each other: mpi (mpirun starts them), tcp (strata launch does), "
                  "auto (mpi where mpirun is; the default)")
      ->type_name("HOW");
  command
      .add_option("--hostfile", arguments.hostfile,
                  "lines 'worker-0 slots=8': starts all nodes from here, through ssh")
      ->type_name("FILE");
  command.add_option("--include", arguments.include,
                     "of the hostfile, only: 'worker-0@worker-1:0,2'");
  command.add_option("--exclude", arguments.exclude, "of the hostfile, all but these");
}

void AddManners(CLI::App& command, launch::Arguments& arguments) {
  command.add_option("--log-dir", arguments.log_dir, "rank-0.log and so on; default strata-logs")
      ->type_name("DIR");
  command.add_option("--grace", arguments.grace_seconds,
                     "seconds from SIGTERM to SIGKILL when ranks are stopped; default 8");
  command.add_option("--wait", arguments.wait_seconds,
                     "seconds to wait for nodes and ranks to appear; default 600");
  command.add_option("--rdzv-id", arguments.job_id,
                     "a name for the job, the same on every node, where ports are shared");
  command
      .add_option("--secret-file", arguments.secret_file,
                  "what nodes know each other by (or STRATA_LAUNCH_SECRET); default "
                  "~/.config/strata/launch-secret")
      ->type_name("FILE");
  command
      .add_option("--control-address", arguments.control_address,
                  "how the nodes of a hostfile or allocation reach this machine; default its name")
      ->type_name("HOST");
  command
      .add_option("-x,--export", arguments.exports, "a variable for ranks on other machines, too")
      ->type_name("NAME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--program", arguments.program, "run this instead of strata")
      ->type_name("PATH");
  command.add_flag("--no-bind", arguments.no_bind, "leave ranks to the kernel: no cores, no NUMA");
  command.add_flag("--dry-run", arguments.dry_run, "print what would be run, per node");
  command.add_flag("--json", arguments.json, "with --dry-run: as JSON");
}

void AddAgent(CLI::App& app, LaunchCommandLine& line, std::function<int()>& chosen) {
  CLI::App* command = app.add_subcommand(launch::kAgentCommand, "one rank's agent")->group("");
  launch::AgentArguments& agent = line.agent;
  command->add_option("--layout", agent.layout)->required();
  command->add_option("--control", agent.control)->required();
  command->add_option("--master-addr", agent.master_addr)->required();
  command->add_option("--master-port", agent.master_port)->required();
  command->add_option("--log-dir", agent.log_dir)->required();
  command->add_option("--grace", agent.grace_seconds);
  command->add_option("--rank", agent.rank);
  command->add_option("--comm-port", agent.comm_port);
  command->add_flag("--no-bind", agent.no_bind);
  command->callback(
      [&line, &chosen] { chosen = [&line] { return RunAgent(line.agent, NeedsOf); }; });
}

void AddDaemon(CLI::App& app, LaunchCommandLine& line, std::function<int()>& chosen) {
  CLI::App* command =
      app.add_subcommand(launch::kDaemonCommand, "mpirun's remote shell")->group("");
  command->prefix_command();
  command->callback([command, &line, &chosen] {
    line.daemon_words = command->remaining();
    if (line.daemon_words.empty()) throw CLI::CallForHelp();
    line.daemon_node = line.daemon_words.front();
    line.daemon_words.erase(line.daemon_words.begin());
    chosen = [&line] { return launch::RunDaemonRelay(line.daemon_node, line.daemon_words); };
  });
}

}  // namespace

void AddLaunch(CLI::App& app, LaunchCommandLine& line, std::function<int()>& chosen) {
  CLI::App* command = app.add_subcommand("launch", "train with several ranks, on one node or many");
  AddPlaces(*command, line.launch);
  AddManners(*command, line.launch);
  command->footer(
      "What follows '--' is run once per rank:\n"
      "  strata launch --nproc-per-node 2 -- train run.toml\n"
      "  strata launch --nnodes 2 --node-rank 0 --master-addr node-a -- train run.toml\n"
      "  strata launch --hostfile hosts -- train run.toml --resume\n"
      "Exit code: that of the first rank that failed; 130 after Ctrl-C, 143 after SIGTERM.");
  command->callback([&line, &chosen] { chosen = [&line] { return Launch(line.launch); }; });
  AddAgent(app, line, chosen);
  AddDaemon(app, line, chosen);
}

std::vector<std::string> CutRankCommand(int& argc, char** argv) {
  std::vector<std::string> command;
  if (argc < 2) return command;
  const std::string_view subcommand = argv[1];
  if (subcommand != "launch" && subcommand != launch::kAgentCommand) return command;
  for (int i = 2; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--") continue;
    command.assign(argv + i + 1, argv + argc);
    argc = i;
    break;
  }
  return command;
}

}  // namespace strata::tools
