// Which rank has which GPU, and what is asked for it: on machines that are described here.
#include "tools/launch/wishes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/or_die.h"
#include "tools/launch/visible_gpus.h"

namespace strata::launch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using tiering::DriverGpu;

using Gpus = std::vector<DriverGpu>;
using Variables = std::map<std::string, std::string>;

// As the driver may have them: not by their places.
Gpus FourGpus() {
  Gpus gpus;
  for (const char* bus : {"0000:9b:00.0", "0000:17:00.0", "0000:65:00.0", "0000:ca:00.0"}) {
    DriverGpu& gpu = gpus.emplace_back();
    gpu.name = "NVIDIA H100 80GB HBM3";
    gpu.memory_bytes = 80'000;
    gpu.pci_bus_id = bus;
    gpu.uuid = std::string("GPU-") + bus[5] + bus[6] + "-4711";
    gpu.numa_node = bus[5] >= '8' ? 1 : 0;
  }
  return gpus;
}
std::vector<std::string> Buses(const Result<Gpus>& gpus) {
  std::vector<std::string> buses;
  for (const DriverGpu& gpu : OrDie(gpus)) buses.push_back(gpu.pci_bus_id.substr(5, 2));
  return buses;
}

TEST(VisibleGpus, AreCountedByTheirPlacesOnTheBus) {
  EXPECT_THAT(Buses(VisibleGpus(FourGpus(), nullptr, nullptr)),
              ElementsAre("17", "65", "9b", "ca"));
}

TEST(VisibleGpus, AreThoseOfTheListInItsOrder) {
  EXPECT_THAT(Buses(VisibleGpus(FourGpus(), "2, 0", nullptr)), ElementsAre("9b", "17"));
  EXPECT_THAT(Buses(VisibleGpus(FourGpus(), "GPU-ca,GPU-17-4711,1", nullptr)),
              ElementsAre("ca", "17", "65"));
  EXPECT_THAT(Buses(VisibleGpus(FourGpus(), "", nullptr)), IsEmpty());
}

TEST(VisibleGpus, EndBeforeAnEntryThatIsNone) {
  for (const char* list : {"1,4,0", "1,-1,0", "1,GPU-ff,0", "1,GPU-,0", "1,none,0"})
    EXPECT_THAT(Buses(VisibleGpus(FourGpus(), list, nullptr)), ElementsAre("65")) << list;
}

TEST(VisibleGpus, OfSeveralKindsHaveAnOrderOnlyWhereItIsTheBuss) {
  Gpus gpus = FourGpus();
  gpus[0].name = "NVIDIA T400";
  for (const char* list : {static_cast<const char*>(nullptr), "0"}) {
    const Status status = VisibleGpus(gpus, list, nullptr).status();
    EXPECT_EQ(status.code(), Code::kUnimplemented);
    EXPECT_THAT(status.message(), HasSubstr("CUDA_DEVICE_ORDER=PCI_BUS_ID"));
  }
  EXPECT_THAT(Buses(VisibleGpus(gpus, "2", "PCI_BUS_ID")), ElementsAre("9b"));
  EXPECT_THAT(Buses(VisibleGpus(gpus, "GPU-65", nullptr)), ElementsAre("65"));
}

TEST(VisibleGpus, PartsOfAGpuAreNotKnown) {
  EXPECT_EQ(VisibleGpus(FourGpus(), "MIG-1234", nullptr).status().code(), Code::kUnimplemented);
}

NodeSlots AllOf(uint32_t num_slots) { return EvenLayout(1, num_slots)[0]; }

std::vector<Wish> Wishes(const NodeSlots& node, const RunNeeds& needs = {},
                         const Result<Gpus>& gpus = FourGpus(), const Variables& variables = {}) {
  return GpuWishes(node, needs, gpus, [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}
std::vector<std::string> Whats(const std::vector<Wish>& wishes) {
  std::vector<std::string> whats;
  for (const Wish& wish : wishes)
    whats.push_back(wish.what.empty() ? "" : wish.what.substr(sizeof("GPU 0000:") - 1, 2));
  return whats;
}

TEST(GpuWishes, RankNHasTheNthVisibleGpu) {
  const std::vector<Wish> wishes = Wishes(AllOf(4));
  EXPECT_THAT(Whats(wishes), ElementsAre("17", "65", "9b", "ca"));
  EXPECT_EQ(wishes[0].what, "GPU 0000:17:00.0");
  EXPECT_EQ(wishes[1].numa_node, 0u);
  EXPECT_EQ(wishes[2].numa_node, 1u);
  EXPECT_THAT(Whats(Wishes(AllOf(2), {}, FourGpus(), {{"CUDA_VISIBLE_DEVICES", "3,0"}})),
              ElementsAre("ca", "17"));
}

// The agent shows ranks the slots in use, whatever was visible.
TEST(GpuWishes, SlotsThatAFilterLeavesAreGpus) {
  const NodeSlots node{.host = "a", .num_slots = 4, .slots = {1, 3}};
  const Variables variables = {{"CUDA_VISIBLE_DEVICES", "0"}};
  EXPECT_THAT(Whats(Wishes(node, {}, FourGpus(), variables)), ElementsAre("17", "65", "9b", "ca"));
  EXPECT_THAT(Whats(Wishes(node, {.gpu = 1}, FourGpus(), variables)),
              ElementsAre("ca", "ca", "ca", "ca"));
}

TEST(GpuWishes, AGpuThatIsNamedIsEverybodys) {
  EXPECT_THAT(Whats(Wishes(AllOf(2), {.gpu = 2})), ElementsAre("9b", "9b"));
  EXPECT_THAT(Whats(Wishes(AllOf(2), {.gpu = 9})), ElementsAre("", ""));
}

TEST(GpuWishes, AGpuThatIsShownAloneIsThatOfAnyRank) {
  EXPECT_THAT(Whats(Wishes(AllOf(2), {}, FourGpus(), {{"CUDA_VISIBLE_DEVICES", "2"}})),
              ElementsAre("9b", "9b"));
}

TEST(GpuWishes, RanksWithoutAGpuAndMachinesWithoutOneHaveNone) {
  EXPECT_THAT(Whats(Wishes(AllOf(6))), ElementsAre("17", "65", "9b", "ca", "", ""));
  const std::vector<Wish> none = Wishes(AllOf(1), {}, Result<Gpus>(Unavailable("no driver")));
  EXPECT_TRUE(none[0].what.empty() && none[0].why_not_told.empty());
}

TEST(GpuWishes, WhatOnlyCudaKnowsIsSaid) {
  const std::vector<Wish> wishes =
      Wishes(AllOf(1), {}, FourGpus(), {{"CUDA_VISIBLE_DEVICES", "MIG-1"}});
  EXPECT_EQ(wishes[0].why_not_told, "GPU not known: it has a part of a GPU (MIG)");
  EXPECT_FALSE(wishes[0].numa_node.has_value());
}

TEST(NearDrivesBelow, APathThatIsNotThereYetIsLookedForAbove) {
  const std::vector<NearDrive> here = NearDrivesBelow({STRATA_BINARY_DIR});
  const std::vector<NearDrive> later =
      NearDrivesBelow({STRATA_BINARY_DIR "/not/there", STRATA_BINARY_DIR "/yet"});
  ASSERT_EQ(here.size(), later.size());
  for (size_t i = 0; i < here.size(); ++i) EXPECT_EQ(here[i].name, later[i].name);
  EXPECT_THAT(NearDrivesBelow({"/proc/self"}), IsEmpty());
}

}  // namespace
}  // namespace strata::launch
