// SharedControllers: the controllers that a Context's nvme: devices drive, one for all namespaces of a function.
//
// The first device that opens a namespace of a function brings its controller up, later ones use it, and the
// last to go shuts it down; an opening meanwhile waits for that. A namespace is open once for writing, or any
// number of times for reading, as a file: device is.
// Threads: any.
#pragma once

#include <basalt/device.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/sync.h"
#include "nvme/controller.h"

namespace basalt {

class SharedControllers {
  struct Entry;

 public:
  using BringUp = std::function<Result<std::unique_ptr<nvme::Controller>>()>;

  // A controller that is up, and one of its namespaces, for as long as this lives.
  class Lease {
   public:
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    nvme::Controller& controller() const;
    // Whether nobody has the controller but this lease and `namespaces` more, each of a namespace of its own.
    bool is_alone_with(size_t namespaces) const;

   private:
    friend class SharedControllers;
    Lease(std::shared_ptr<Entry> entry, uint32_t nsid) : entry_(std::move(entry)), nsid_(nsid) {}
    std::shared_ptr<Entry> entry_;  // null: moved from
    uint32_t nsid_;
  };

  // `function` names the way to the controller, as "pci:0000:01:00.0".
  // nsid 0 is no namespace: any number may hold the controller so, for reading.
  // `settings` is what its URI says of the controller, the same for all devices of one.
  // Errors: those of bring_up; busy (the namespace is open); invalid_argument (the controller is open with
  // other settings).
  Result<Lease> lease(const std::string& function, uint32_t nsid, OpenMode mode,
                      const std::string& settings, const BringUp& bring_up);
  // nvme::Controller::set_reconnecting(false) for all there are: the process is about to end.
  void stop_reconnecting();

 private:
  static constexpr int kWriter = -1;
  struct Entry {
    Mutex mutex;  // protects all below; held while the controller comes up or goes
    std::unique_ptr<nvme::Controller> controller;  // null: nobody has it open
    std::string settings;
    std::map<uint32_t, int> open;  // nsid → how many read it, or kWriter
  };

  Mutex mutex_;  // protects entries_
  std::map<std::string, std::shared_ptr<Entry>> entries_;
};

}  // namespace basalt
