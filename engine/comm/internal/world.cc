#include "engine/comm/internal/world.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

namespace strata::engine {
namespace {

constexpr std::chrono::milliseconds kTimeToAnswer(500);

// What every rank tells every other at the start.
struct Introduction {
  uint32_t first_rank_of_machine = 0;
  uint32_t ranks_per_pretended_node = 0;
  MemoryName memory = {};
};

uint64_t Nonce(uint32_t rank) {
  timespec now{};
  STRATA_CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
  const auto nanoseconds =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  return (nanoseconds << 16) ^ (static_cast<uint64_t>(getpid()) << 8) ^ rank;
}

Result<std::vector<Introduction>> Introduce(Transport& transport, const Introduction& mine) {
  std::vector<Introduction> all(transport.world_size());
  STRATA_RETURN_IF_ERROR(
      transport.Meet(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all))));
  for (uint32_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].ranks_per_pretended_node == mine.ranks_per_pretended_node) continue;
    return InvalidArgument(fmt::format("rank {} pretends nodes of {} ranks, rank {} of {}", rank,
                                       all[rank].ranks_per_pretended_node, transport.rank(),
                                       mine.ranks_per_pretended_node));
  }
  return all;
}

}  // namespace

Result<std::unique_ptr<World>> World::Create(std::unique_ptr<Transport> transport,
                                             const CommunicatorOptions& options) {
  STRATA_ASSIGN_OR_RETURN(NodeMemory memory, NodeMemory::Create(Nonce(transport->rank())));
  STRATA_ASSIGN_OR_RETURN(const std::vector<Introduction> all,
                          Introduce(*transport, {transport->first_rank_of_machine(),
                                                 options.ranks_per_pretended_node, memory.name()}));
  std::vector<uint32_t> machines;
  for (const Introduction& one : all) machines.push_back(one.first_rank_of_machine);
  STRATA_ASSIGN_OR_RETURN(RankMap ranks, RankMap::Create(transport->rank(), machines,
                                                         options.ranks_per_pretended_node));
  std::vector<MemoryName> names;
  std::vector<int64_t> processes;
  for (uint32_t local = 0; local < ranks.local_size(); ++local) {
    names.push_back(all[ranks.first_of(ranks.node()) + local].memory);
    processes.push_back(names.back().process);
  }
  STRATA_RETURN_IF_ERROR(memory.Join(ranks, names));
  // Nobody goes on before all have found each other, or one could end while it is looked for.
  std::vector<std::byte> here(transport->world_size());
  STRATA_RETURN_IF_ERROR(transport->Meet(std::span(here).first(1), here));
  return std::unique_ptr<World>(new World(std::move(transport), std::move(ranks), std::move(memory),
                                          std::move(processes), options.deadline));
}

World::World(std::unique_ptr<Transport> transport, RankMap ranks, NodeMemory memory,
             std::vector<int64_t> processes, std::chrono::milliseconds deadline)
    : ranks_(std::move(ranks)),
      memory_(std::move(memory)),
      watch_(std::move(processes)),
      deadline_(deadline),
      transport_(std::move(transport)) {}

World::~World() {
  RankBoard& board = memory_.own_board();
  board.has_left.store(true, std::memory_order_seq_cst);
  for (ChannelBoard& channel : board.channels) {
    for (SharedCounter* counter :
         {&channel.begun, &channel.produced, &channel.relayed, &channel.consumed})
      WakeAll(*counter);
  }
}

Status World::Fail(const Status& why) {
  std::shared_lock lock(transport_in_use_);
  if (failure_.Set(why)) TellOthers(why);
  return failure_.status();
}

void World::TellOthers(const Status& why) {
  transport_->SetBroken();
  RankBoard& board = memory_.own_board();
  const size_t length = std::min(why.message().size(), board.failure_text.size() - 1);
  std::memcpy(board.failure_text.data(), why.message().data(), length);
  board.failure_text[length] = '\0';
  board.failure_code = why.code();
  board.failed.store(true, std::memory_order_seq_cst);
  for (uint32_t local = 0; local < ranks_.local_size(); ++local) {
    for (ChannelBoard& channel : memory_.board(local).channels) {
      for (SharedCounter* counter :
           {&channel.begun, &channel.produced, &channel.relayed, &channel.consumed})
        WakeAll(*counter);
    }
  }
  for (uint32_t rank = 0; rank < ranks_.world_size(); ++rank)
    if (!ranks_.is_local(rank)) transport_->SendNotice(rank, FailureText(why.message()));
  if (ranks_.num_nodes() > 1) transport_->FlushNotices();
}

std::optional<Status> World::FailureOfPeer() {
  for (uint32_t local = 0; local < ranks_.local_size(); ++local) {
    const RankBoard& board = memory_.board(local);
    if (local == ranks_.local_rank() || !board.failed.load(std::memory_order_acquire)) continue;
    return Status(board.failure_code, board.failure_text.data());
  }
  return ranks_.num_nodes() == 1 ? std::nullopt : ReadNotices();
}

// Of failures, and questions about whom this rank waits for.
std::optional<Status> World::ReadNotices() {
  std::optional<Status> told;
  const Status read = WithTransport([&] {
    while (const std::optional<std::string> text = transport_->ReceiveNotice()) {
      const std::optional<Question> asked = questions_.Read(*text);
      if (asked) {
        const Answer own = LookAt(ranks_.rank(), asked->channel, {});
        transport_->SendNotice(asked->rank, AnswerText(*asked, ranks_.rank(), own));
      } else if (IsFailure(*text)) {
        told = Unavailable(text->substr(1));
      }
    }
    return OkStatus();
  });
  return read.ok() ? told : read;
}

Status World::Check(const std::function<std::string()>& doing) {
  if (failed()) return failure_.status();
  if (const std::optional<Status> told = FailureOfPeer()) return Fail(*told);
  const std::optional<uint32_t> ended = watch_.FirstEnded();
  if (!ended || memory_.board(*ended).has_left.load(std::memory_order_acquire)) return OkStatus();
  // It may have told why, just before it ended.
  if (const std::optional<Status> told = FailureOfPeer()) return Fail(*told);
  return Fail(
      Unavailable(fmt::format("{}: rank {} (pid {}) has ended", doing(),
                              ranks_.first_of(ranks_.node()) + *ended, watch_.process(*ended))));
}

std::string World::Describe(uint32_t rank) const {
  if (!ranks_.is_local(rank)) return fmt::format("rank {} (node {})", rank, ranks_.node_of(rank));
  const uint32_t local = rank - ranks_.first_of(ranks_.node());
  return fmt::format("rank {} (pid {}, {})", rank, watch_.process(local), watch_.StateOf(local));
}

Answer World::LookAt(uint32_t rank, ChannelId channel, Questions::Clock::time_point since) {
  if (!ranks_.is_local(rank)) return questions_.AnswerOf(rank, channel, since).value_or(Answer{});
  const RankBoard& board = BoardOf(rank);
  Answer answer{.progress = board.progress.load(std::memory_order_relaxed),
                .arrived = board.gpu.arrived.load(std::memory_order_relaxed)};
  if (!watch_.IsStopped(rank - ranks_.first_of(ranks_.node()))) {
    const ChannelBoard& of_channel = board.channels[static_cast<size_t>(channel)];
    answer.waits_for = of_channel.waiting_for.load(std::memory_order_acquire);
  }
  return answer;
}

void World::ShowProgress(uint64_t progress) {
  memory_.own_board().progress.store(progress, std::memory_order_relaxed);
  if (ranks_.num_nodes() == 1) return;
  if (const std::optional<Status> told = ReadNotices())
    static_cast<void>(Fail(*told).ok());  // the collectives will say so
}

Communicator::Waits World::waits() const {
  Communicator::Waits waits{.ended = waits_ended_.load(std::memory_order_relaxed)};
  if (failed()) return waits;  // none is waited for any more
  for (const ChannelBoard& channel : memory_.own_board().channels)
    waits.now += channel.waiting_for.load(std::memory_order_relaxed) != 0 ? 1 : 0;
  return waits;
}

Result<std::vector<Answer>> World::AskAll(ChannelId channel) {
  const Questions::Clock::time_point begin = Questions::Clock::now();
  if (ranks_.num_nodes() > 1) {
    for (uint32_t other = 0; other < ranks_.world_size(); ++other) {
      if (ranks_.is_local(other)) continue;
      STRATA_RETURN_IF_ERROR(WithTransport([&] {
        transport_->SendNotice(other, QuestionText({ranks_.rank(), channel}));
        return OkStatus();
      }));
    }
    while (Questions::Clock::now() < begin + kTimeToAnswer) {
      STRATA_RETURN_IF_ERROR(Check([] { return "looking for who is late"; }));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  std::vector<Answer> answers;
  for (uint32_t rank = 0; rank < ranks_.world_size(); ++rank)
    answers.push_back(LookAt(rank, channel, begin));
  return answers;
}

Result<World::Culprit> World::FindCulprit(uint32_t rank, ChannelId channel) {
  STRATA_ASSIGN_OR_RETURN(const std::vector<Answer> answers, AskAll(channel));
  Culprit culprit{.rank = rank};
  for (uint32_t steps = 0; steps < ranks_.world_size(); ++steps) {
    const Answer& answer = answers[culprit.rank];
    culprit.progress = answer.progress;
    if (answer.waits_for == 0 || answer.waits_for - 1 == ranks_.rank()) break;
    culprit.rank = answer.waits_for - 1;
  }
  return culprit;
}

}  // namespace strata::engine
