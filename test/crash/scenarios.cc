// See scenarios.h.
#include "crash/scenarios.h"

#include <string>

namespace basalt::crash {
namespace {

// A write-ahead log as a database uses it.
void synced_log(Session& session, Machine&) {
  if (!session.create("/s/wal", FileKind::log)) return;
  for (size_t length : {100, 400, 12, 5000, 31, 9000}) {
    if (!session.append(session.files().back(), length) || !session.sync(session.files().back())) {
      return;
    }
  }
  session.close_all();
}

// A table, then the manifest that names it, then CURRENT replaced.
void install_table(Session& session, Machine&) {
  for (unsigned i = 1; i <= 3; ++i) {
    const std::string name = std::to_string(i);
    const bool done =
        session.create("/s/" + name + ".sst", FileKind::table) &&
        session.append(session.files().back(), 70'000) && session.sync(session.files().back()) &&
        session.close(session.files().back()) &&
        session.create("/s/manifest" + name, FileKind::log) &&
        session.append(session.files().back(), 300) && session.sync(session.files().back()) &&
        session.close(session.files().back()) && session.create("/s/tmp", FileKind::table) &&
        session.append(session.files().back(), 16) && session.sync(session.files().back()) &&
        session.close(session.files().back()) && session.rename("/s/tmp", "/s/current") &&
        session.sync_directory("/s");
    if (!done) return;
    if (i > 1 && !session.remove("/s/manifest" + std::to_string(i - 1))) return;
  }
}

// Space that one file frees is taken by the next at once.
void recycled_space(Session& session, Machine&) {
  for (unsigned i = 0; i < 6; ++i) {
    const FileKind kind = i % 2 == 0 ? FileKind::log : FileKind::table;
    const std::string path = "/s/f" + std::to_string(i);
    if (!session.create(path, kind) || !session.append(session.files().back(), 40'000)) return;
    if (i % 3 != 2 && !session.sync(session.files().back())) return;
    if (!session.close(session.files().back())) return;
    if (i > 0 && !session.remove("/s/f" + std::to_string(i - 1))) return;
  }
}

// Overwriting, cutting and punching a table that is already synced; truncating a log and going on.
void changed_in_place(Session& session, Machine&) {
  if (!session.create("/s/table", FileKind::table) ||
      !session.append(session.files().back(), 100'000) || !session.sync(session.files().back()) ||
      !session.write(session.files().back(), 5000, 3000) ||
      !session.truncate(session.files().back(), 60'000) ||
      !session.punch(session.files().back(), 3000, 20'000) ||
      !session.sync(session.files().back()) ||
      !session.write(session.files().back(), 80'000, 1000) ||
      !session.close(session.files().back())) {
    return;
  }
  if (!session.create("/s/log", FileKind::log) || !session.append(session.files().back(), 20'000) ||
      !session.sync(session.files().back()) || !session.truncate(session.files().back(), 777) ||
      !session.append(session.files().back(), 5000) || !session.sync(session.files().back())) {
    return;
  }
  session.close_all();
}

// A table whose length was cut inside a block, which is written again at the new end: what was cut off is
// there until the cut is durable. Once through the same handle, once through another.
void shortened(Session& session, Machine&) {
  if (!session.create("/s/table", FileKind::table)) return;
  for (unsigned i = 0; i < 4; ++i) {
    const bool reopened = i % 2 == 1;
    const bool done =
        session.append(session.files().back(),
                       10'000 - session.files().back().model->content().size()) &&
        session.sync(session.files().back()) && session.truncate(session.files().back(), 5000) &&
        (!reopened || (session.close(session.files().back()) && session.open("/s/table"))) &&
        session.append(session.files().back(), 300) && session.sync(session.files().back());
    if (!done) return;
  }
  session.close_all();
}

// Removed while open, then cut and written at the new end: until the removal is durable the file may come
// back, and whole.
void removed_then_shortened(Session& session, Machine&) {
  for (unsigned i = 0; i < 4; ++i) {
    const std::string path = "/s/gone" + std::to_string(i);
    const bool done = session.create(path, i % 2 == 0 ? FileKind::table : FileKind::log) &&
                      session.append(session.files().back(), 10'000) &&
                      session.sync(session.files().back()) && session.remove(path) &&
                      session.truncate(session.files().back(), 5000) &&
                      session.append(session.files().back(), 300) &&
                      session.sync(session.files().back()) && session.close(session.files().back());
    if (!done) return;
  }
}

// Many names, so that checkpoints and journal records pass each other.
void many_names(Session& session, Machine& machine) {
  for (unsigned i = 0; i < 12; ++i) {
    const std::string directory = "/s/d" + std::to_string(i);
    if (!session.make_directory(directory)) return;
    for (unsigned j = 0; j < 3; ++j) {
      const std::string path = directory + "/" + std::to_string(j);
      if (!session.create(path, FileKind::table) || !session.append(session.files().back(), 10) ||
          !session.close(session.files().back())) {
        return;
      }
    }
    if (!session.link(directory + "/0", directory + "/same")) return;
    if (i % 3 == 0 && !session.rename(directory, "/s/renamed" + std::to_string(i))) return;
    if (i % 4 == 0 && !session.sync_all()) return;
    machine.step_background();
  }
}

// One write-ahead log after the other, each synced before the one before it goes; some bytes are written
// in the background before they are synced.
void log_rollover(Session& session, Machine& machine) {
  for (unsigned i = 0; i < 5; ++i) {
    const std::string path = "/s/" + std::to_string(i) + ".log";
    if (!session.create(path, FileKind::log, 30'000)) return;
    for (size_t length : {200, 9000, 50}) {
      Session::Open& log = session.files().back();
      if (!session.append(log, length) || !session.start_writeback(log)) return;
      machine.step_background();
      if (!session.append(log, 100) || !session.sync(log)) return;
    }
    if (!session.append(session.files().back(), 700) || !session.close(session.files().back()))
      return;
    if (i > 0 && !session.remove("/s/" + std::to_string(i - 1) + ".log")) return;
  }
  session.sync_directory("/s");
}

// A log opened again and again, each time in a new epoch, over bytes of the one before.
void log_reopened(Session& session, Machine&) {
  if (!session.create("/s/log", FileKind::log)) return;
  for (unsigned i = 0; i < 5; ++i) {
    Session::Open& log = session.files().back();
    if (!session.append(log, 900 + 700 * i) || !session.sync(log) || !session.append(log, 333))
      return;
    if (i % 2 == 1 && !session.truncate(log, 500)) return;
    if (!session.close(log) || !session.open("/s/log")) return;
  }
  session.close_all();
}

// Names that take each other's place, files with two names, and what is left when names go.
void renamed_and_linked(Session& session, Machine&) {
  for (unsigned i = 0; i < 4; ++i) {
    const std::string fresh = "/s/new" + std::to_string(i);
    const bool done =
        session.create(fresh, i % 2 == 0 ? FileKind::table : FileKind::log) &&
        session.append(session.files().back(), 6000 + 100 * i) &&
        session.sync(session.files().back()) && session.close(session.files().back()) &&
        session.link(fresh, "/s/second" + std::to_string(i)) && session.rename(fresh, "/s/current");
    if (!done) return;
    if (i % 2 == 1 && !session.remove("/s/second" + std::to_string(i - 1))) return;
  }
  session.sync_directory("/s");
}

// Removed while open: its space is in use until the last handle goes.
void removed_while_open(Session& session, Machine&) {
  for (unsigned i = 0; i < 3; ++i) {
    const std::string path = "/s/gone" + std::to_string(i);
    const bool done =
        session.create(path, FileKind::table) && session.append(session.files().back(), 120'000) &&
        session.sync(session.files().back()) && session.remove(path) &&
        session.sync_directory("/s") && session.append(session.files().back(), 5000) &&
        session.close(session.files().back()) &&
        session.create("/s/kept" + std::to_string(i), FileKind::table) &&
        session.append(session.files().back(), 70'000) && session.sync(session.files().back()) &&
        session.close(session.files().back());
    if (!done) return;
  }
}

// Checkpoints run in the background while names and files change.
void checkpoint_beside_commits(Session& session, Machine& machine) {
  for (unsigned i = 0; i < 10; ++i) {
    const std::string path = "/s/f" + std::to_string(i);
    const bool done = session.create(path, FileKind::table) &&
                      session.append(session.files().back(), 9000) &&
                      session.sync(session.files().back()) && session.close(session.files().back());
    if (!done) return;
    machine.step_background();
    if (i % 2 == 1 && !session.rename(path, "/s/g" + std::to_string(i))) return;
    if (i % 5 == 4 && !session.sync_all()) return;
    machine.step_background();
  }
}

// So many commits that the journal's ring is used more than once.
void journal_wraps(Session& session, Machine& machine) {
  if (!session.create("/s/a", FileKind::table) || !session.close(session.files().back())) return;
  for (unsigned i = 0; i < 400; ++i) {
    const bool even = i % 2 == 0;
    if (!session.rename(even ? "/s/a" : "/s/b", even ? "/s/b" : "/s/a")) return;
    if (!session.sync_directory("/s")) return;
    // Some checkpoints find a change nobody has asked to be durable.
    if (i % 48 == 0 && !session.make_directory("/s/d" + std::to_string(i))) return;
    if (i % 16 == 0) machine.step_background();
  }
}

// One late checkpoint in the background; then the journal's ring runs full, which makes another.
void journal_fills(Session& session, Machine& machine) {
  if (!session.create("/s/a", FileKind::table) || !session.close(session.files().back())) return;
  for (unsigned i = 0; i < 300; ++i) {
    const bool even = i % 2 == 0;
    if (!session.rename(even ? "/s/a" : "/s/b", even ? "/s/b" : "/s/a")) return;
    if (!session.sync_directory("/s")) return;
    if (i == 180) machine.step_background();
  }
}

// No room for the next file: an append fails, space is given back, and is used at once. Most of the space
// is taken by files that are empty, open, and have it allocated; closing one gives it back.
void full(Session& session, Machine&) {
  size_t holding = 0;
  for (; holding < 64 && session.no_space_answers() == 0; ++holding) {
    if (!session.create("/s/room" + std::to_string(holding), FileKind::table)) return;
    session.allocate(session.files().back(), 0, 1'000'000);
    if (session.stopped()) return;
  }
  for (unsigned i = 0; i < 8 && holding > 0; ++i) {
    if (session.create("/s/f" + std::to_string(i), FileKind::table)) {
      session.append(session.files().back(), 300'000);
      if (!session.stopped()) session.sync(session.files().back());
      if (session.stopped() || !session.close(session.files().back())) return;
    }
    if (session.stopped()) return;
    if (i % 3 == 0 && !session.close(session.files()[--holding])) return;
  }
  session.sync_directory("/s");
}

constexpr Scenario kScenarios[] = {
    {"synced_log", synced_log},
    {"log_rollover", log_rollover},
    {"log_reopened", log_reopened},
    {"install_table", install_table},
    {"recycled_space", recycled_space},
    {"changed_in_place", changed_in_place},
    {"shortened", shortened},
    {"renamed_and_linked", renamed_and_linked},
    {"removed_while_open", removed_while_open},
    {"removed_then_shortened", removed_then_shortened},
    {"many_names", many_names},
    {"checkpoint_beside_commits", checkpoint_beside_commits},
    {"journal_wraps", journal_wraps},
    {"journal_fills", journal_fills},
    {"full", full, uint64_t{16} << 20, true},
};

}  // namespace

std::span<const Scenario> scenarios() { return kScenarios; }

}  // namespace basalt::crash
