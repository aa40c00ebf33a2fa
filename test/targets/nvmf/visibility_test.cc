// What a host finds: namespaces that only some hosts see, and other discovery services.
#include <gtest/gtest.h>

#include "test/targets/nvmf/host_commands.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

constexpr const char* kOne = "nqn.2014-08.org.example:one";
constexpr const char* kTwo = "nqn.2014-08.org.example:two";

class NvmfVisibility : public testing::Test {
 protected:
  NvmfVisibility() : served_({"ram:1M"}) {
    auto device = open_device(*served_.context, "ram:2M");
    const auto added = served_.target->add_namespace(ServedTarget::kNqn, std::move(*device),
                                                     {.nsid = 2, .ids = {}, .for_all = false});
    EXPECT_TRUE(added) << added.error().to_string();
  }
  // As an admin and an I/O queue; a host has an id of its own.
  struct Host {
    Host(const nvmf::ListenAddress& address, const char* nqn) : admin(address), io(address) {
      nvme::ConnectData data = RawHost::connect_data(ServedTarget::kNqn, nvme::kAnyController, nqn);
      data.host_id[0] = static_cast<uint8_t>(nqn[std::strlen(nqn) - 1]);
      admin.open();
      const RawAnswer connected = admin.connect(data, 0);
      EXPECT_TRUE(connected.status().ok());
      EXPECT_TRUE(admin
                      .run(nvme::property_set_command(nvme::Register::configuration,
                                                      nvme::kEnable | nvme::kEntrySizes))
                      .status()
                      .ok());
      data.controller_id = nvme::ConnectResult{connected.completion.result}.controller_id();
      io.open();
      EXPECT_TRUE(io.connect(data, 1).status().ok());
    }
    std::string namespaces() {
      const RawAnswer list =
          admin.run(identify(nvme::IdentifyKind::active_namespaces), {}, nvme::kIdentifyBytes);
      std::string all;
      for (size_t at = 0; at < list.data.size(); at += 4) {
        le32 nsid;
        std::memcpy(&nsid, list.data.data() + at, sizeof nsid);
        if (nsid != 0u) all += std::to_string(nsid) + " ";
      }
      return all;
    }
    nvme::CompletionStatus read(uint32_t nsid) {
      return io.run(transfer(nvme::IoOpcode::read, 0, 1, nsid), {}, 512).status();
    }
    RawHost admin, io;
  };

  ServedTarget served_;
};

TEST_F(NvmfVisibility, OnlyWhoIsNamedSeesIt) {
  Host one(served_.address, kOne), two(served_.address, kTwo);
  EXPECT_EQ(one.namespaces(), "1 ");
  EXPECT_TRUE(one.read(2).is(nvme::kInvalidNamespace));
  for (Host* host : {&one, &two}) {
    EXPECT_TRUE(host->admin.run(enable_events(nvme::kReportNamespaces)).status().ok());
  }
  one.admin.submit(admin(nvme::AdminOpcode::async_event_request));

  served_.expect_ok(served_.target->show_namespace(ServedTarget::kNqn, 2, kOne));
  EXPECT_EQ(one.admin.answer().completion.result & 0xffff, 2u | nvme::kNamespacesChanged << 8);
  EXPECT_EQ(one.namespaces(), "1 2 ");
  EXPECT_TRUE(one.read(2).ok());
  EXPECT_EQ(two.namespaces(), "1 ");
  EXPECT_TRUE(two.read(2).is(nvme::kInvalidNamespace));
  EXPECT_TRUE(two.read(1).ok());
  // Nothing is to be told to the other: his event waits for the next change, which is of namespace 1.
  two.admin.submit(admin(nvme::AdminOpcode::async_event_request));

  served_.expect_ok(served_.target->hide_namespace(ServedTarget::kNqn, 2, kOne));
  EXPECT_EQ(one.namespaces(), "1 ");
  EXPECT_TRUE(one.read(2).is(nvme::kInvalidNamespace));
  served_.expect_ok(served_.target->remove_namespace(ServedTarget::kNqn, 1));
  EXPECT_EQ(two.admin.answer().completion.result & 0xffff, 2u | nvme::kNamespacesChanged << 8);
  const RawAnswer page = two.admin.run(get_log(nvme::LogPage::changed_namespaces, 4096), {}, 4096);
  le32 changed[2];
  std::memcpy(changed, page.data.data(), sizeof changed);
  EXPECT_EQ(changed[0], 1u);
  EXPECT_EQ(changed[1], 0u);
}

TEST_F(NvmfVisibility, RefusesWhatMakesNoSense) {
  nvmf::Target& target = *served_.target;
  const std::string nqn = ServedTarget::kNqn;
  EXPECT_EQ(target.show_namespace(nqn, 1, kOne).code(), StatusCode::invalid_argument);
  EXPECT_EQ(target.show_namespace(nqn, 3, kOne).code(), StatusCode::not_found);
  EXPECT_EQ(target.show_namespace(nqn, 2, "me").code(), StatusCode::invalid_argument);
  EXPECT_EQ(target.hide_namespace(nqn, 2, kOne).code(), StatusCode::not_found);
  served_.expect_ok(target.show_namespace(nqn, 2, kOne));
  EXPECT_EQ(target.show_namespace(nqn, 2, kOne).code(), StatusCode::already_exists);
  // A namespace of the same number that comes later is for all again.
  served_.expect_ok(target.remove_namespace(nqn, 2));
  served_.add("ram:1M");
  EXPECT_EQ(Host(served_.address, kTwo).namespaces(), "1 2 ");
}

TEST_F(NvmfVisibility, ReferralsAreInTheDiscoveryLog) {
  const nvmf::Referral referral{.address = {"192.0.2.7", "8009"}, .security = nvmf::Security::tls};
  served_.expect_ok(served_.target->add_referral(referral));
  EXPECT_EQ(served_.target->add_referral(referral).code(), StatusCode::already_exists);
  RawHost host(served_.address);
  host.become_admin(nvme::kDiscoveryNqn);
  const auto referred = [&] {
    const RawAnswer page = host.run(get_log(nvme::LogPage::discovery, 4096), {}, 4096);
    std::string all;
    for (size_t at = 1024; at < page.data.size(); at += 1024) {
      nvme::DiscoveryEntry entry;
      std::memcpy(static_cast<void*>(&entry), page.data.data() + at, sizeof entry);
      if (entry.subsystem_type != static_cast<uint8_t>(nvme::SubsystemType::referral)) continue;
      all += std::string(entry.address) + ":" + entry.service + " " + entry.subsystem_nqn +
             ((entry.requirements & 3) == nvme::kSecureChannelRequired ? " tls" : "");
    }
    return all;
  };
  EXPECT_EQ(referred(), "192.0.2.7:8009 " + std::string(nvme::kDiscoveryNqn) + " tls");
  served_.expect_ok(served_.target->remove_referral(referral));
  EXPECT_EQ(served_.target->remove_referral(referral).code(), StatusCode::not_found);
  EXPECT_EQ(referred(), "");
}

}  // namespace
}  // namespace basalt
