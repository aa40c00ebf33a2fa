// PciMonitor: which of the kernel's messages are events, whatever their bytes; and the socket itself.
#include "nvme/pci_monitor.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;

// As the kernel sends it: words that end with a zero byte.
std::string message(std::initializer_list<const char*> words) {
  std::string text;
  for (const char* word : words) text += std::string(word) + '\0';
  return text;
}

std::string appearance(const char* action = "ACTION=add",
                       const char* class_code = "PCI_CLASS=10802") {
  return message({"add@/devices/pci0000:00/0000:00:01.0/0000:01:00.0", action,
                  "DEVPATH=/devices/pci0000:00/0000:00:01.0/0000:01:00.0", "SUBSYSTEM=pci",
                  class_code, "PCI_ID=1B36:0010", "PCI_SUBSYS_ID=1AF4:1100",
                  "PCI_SLOT_NAME=0000:01:00.0",
                  "MODALIAS=pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", "SEQNUM=1723"});
}

TEST(PciMonitor, AControllerAppears) {
  const auto event = parse_kernel_event(appearance());
  ASSERT_TRUE(event);
  EXPECT_EQ(event->change, PciChange::appeared);
  EXPECT_EQ(event->address, "0000:01:00.0");
  EXPECT_EQ(event->vendor_id, 0x1b36);
  EXPECT_EQ(event->device_id, 0x0010);
  EXPECT_TRUE(event->driver.empty());
}

TEST(PciMonitor, GoesAndChangesDrivers) {
  EXPECT_EQ(parse_kernel_event(appearance("ACTION=remove"))->change, PciChange::gone);
  EXPECT_EQ(parse_kernel_event(appearance("ACTION=unbind"))->change, PciChange::unbound);
  const auto bound = parse_kernel_event(appearance("ACTION=bind") + message({"DRIVER=vfio-pci"}));
  ASSERT_TRUE(bound);
  EXPECT_EQ(bound->change, PciChange::bound);
  EXPECT_EQ(bound->driver, "vfio-pci");
}

TEST(PciMonitor, OthersAreNotTold) {
  EXPECT_FALSE(parse_kernel_event(appearance("ACTION=add", "PCI_CLASS=20000"))) << "a network card";
  EXPECT_FALSE(parse_kernel_event(appearance("ACTION=add", "PCI_CLASS=1080x")));
  EXPECT_FALSE(parse_kernel_event(appearance("ACTION=change")));
  EXPECT_FALSE(parse_kernel_event(appearance() + message({"SUBSYSTEM=nvme"})));
  EXPECT_FALSE(parse_kernel_event(appearance() + message({"PCI_SLOT_NAME=../../etc"})));
  EXPECT_FALSE(parse_kernel_event({}));
}

// Goal: no bytes do harm. Method: parts of a message, and messages with bytes changed.
TEST(PciMonitor, AnyBytesAreTaken) {
  const std::string whole = appearance("ACTION=bind") + message({"DRIVER=nvme"});
  for (size_t length = 0; length <= whole.size(); ++length) {
    (void)parse_kernel_event(std::span(whole).first(length));
  }
  std::mt19937_64 random(5);
  for (int round = 0; round < 20000; ++round) {
    std::string bad = whole;
    for (uint64_t n = 1 + random() % 8; n > 0; --n)
      bad[random() % bad.size()] = static_cast<char>(random());
    const auto event = parse_kernel_event(bad);
    EXPECT_TRUE(!event || event->address.size() == 12);
  }
}

TEST(PciMonitor, WaitsAsLongAsItIsTold) {
  auto monitor = PciMonitor::open();
  if (!monitor) GTEST_SKIP() << monitor.error().to_string();
  const auto none = monitor->next(0ms);
  ASSERT_TRUE(none) << none.error().to_string();
  const auto begin = std::chrono::steady_clock::now();
  const auto event = monitor->next(50ms);
  ASSERT_TRUE(event) << event.error().to_string();
  EXPECT_TRUE(*event || std::chrono::steady_clock::now() - begin >= 50ms);
}

}  // namespace
}  // namespace basalt::nvme
