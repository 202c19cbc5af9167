// What a kill -9 leaves: of memory that others hold, of kernels that run, and for how long.

#include <poll.h>

#include <atomic>
#include <optional>
#include <thread>

#include "tests/gpu/lab.h"

namespace mesh::facts {
namespace {

std::string with_bytes(const std::string& verb, uint64_t bytes) { return verb + " " + std::to_string(bytes); }

void note_wrong_words(Lab& lab, const std::string& key, Puppet& puppet, const std::string& check) {
  const Reply checked = puppet.ask(check);
  if (lab.is_ok(checked)) lab.note(key, checked.number("wrong"));
}

// Imports and maps it in slot 1.
void take(Lab& lab, Puppet& puppet, int fd, const std::string& rights = "rw") {
  lab.is_ok(puppet.ask(with_bytes("import 1", lab.extent()), fd));
  lab.is_ok(puppet.ask("map 1 " + rights));
}

// D17: the exporter dies, then the importer, and then nobody but a process without driver has the descriptor.
void exporter_killed(Lab& lab) {
  for (const bool has_context : {true, false}) {
    const std::string prefix = has_context ? "with_context_" : "without_context_";
    const double base = lab.settled_mib();
    Puppet owner = has_context ? lab.client() : lab.owner();
    lab.is_ok(owner.ask(with_bytes("create 1", lab.extent())));
    Reply exported = owner.ask("export 1");
    Puppet importer = lab.client();
    take(lab, importer, exported.fd.get());
    lab.is_ok(importer.ask("fill 1 11"));
    owner.kill();
    note_wrong_words(lab, prefix + "importer_wrong_words_after_kill", importer, "check 1 11");
    Puppet keeper = lab.spawn();
    lab.is_ok(keeper.ask("keep 1", exported.fd.get()));
    exported.fd.reset();
    importer.kill();
    lab.note(prefix + "held_by_descriptor_alone_mib", lab.settled_mib() - base);
    lab.note(prefix + "extent_mib", static_cast<double>(lab.extent()) / kMiB);
    const Reply given = keeper.ask("give 1");
    Puppet heir = lab.client();
    lab.note_answer(prefix + "imported_again", heir.ask(with_bytes("import 1", lab.extent()), given.fd.get()));
    lab.note_answer(prefix + "mapped_again", heir.ask("map 1 rw"));
    note_wrong_words(lab, prefix + "heir_wrong_words", heir, "check 1 11");
    const_cast<Reply&>(given).fd.reset();
    heir.kill();
    lab.note(prefix + "left_at_the_end_mib", lab.settled_mib() - base);
  }
}

// D17 again, where no process on the host has the driver open in between.
void descriptor_alone(Lab& lab) {
  Puppet keeper = lab.spawn();
  {
    Puppet owner = lab.client();
    lab.is_ok(owner.ask(with_bytes("create 1", lab.extent())));
    lab.is_ok(owner.ask("map 1 rw"));
    lab.is_ok(owner.ask("fill 1 13"));
    const Reply exported = owner.ask("export 1");
    lab.is_ok(keeper.ask("keep 1", exported.fd.get()));
  }
  sleep_ms(1000);
  Puppet heir = lab.owner();
  const Reply entered = heir.ask("enter");
  lab.note_time("context_ms", entered);
  const Reply given = keeper.ask("give 1");
  lab.note_answer("imported_again", heir.ask(with_bytes("import 1", lab.extent()), given.fd.get()));
  lab.note_answer("mapped_again", heir.ask("map 1 rw"));
  note_wrong_words(lab, "heir_wrong_words", heir, "check 1 13");
}

struct Death {
  double hangup_ms = -1;
  double pidfd_ms = -1;
  double memory_ms = -1;  // until the card says it is back
  double used_at_pidfd_mib = -1;
};

// Kills it, and sees when what is noticed. `on_hangup` and `on_exit` are called at once.
template <class OnHangup, class OnExit>
Death kill_and_watch(Lab& lab, Puppet& victim, double base_mib, OnHangup&& on_hangup, OnExit&& on_exit) {
  constexpr double kToleratedMib = 4;
  constexpr double kMsMax = 6000;
  Death death;
  lab.used_mib();  // opens what is needed for it
  const auto start = Clock::now();
  std::atomic<double> pidfd_ms = -1;
  std::thread watcher([&] {
    while (ms_since(start) < kMsMax) {
      const double asked_ms = ms_since(start);
      const double used = lab.used_mib();
      const double exited_ms = pidfd_ms;
      if (death.used_at_pidfd_mib < 0 && exited_ms >= 0 && asked_ms >= exited_ms)
        death.used_at_pidfd_mib = used - base_mib;
      if (death.memory_ms < 0 && used <= base_mib + kToleratedMib) death.memory_ms = ms_since(start);
      if (death.memory_ms >= 0 && death.used_at_pidfd_mib >= 0) return;
    }
  });
  victim.kill_now();
  while (ms_since(start) < kMsMax && pidfd_ms < 0) {
    pollfd both[] = {{.fd = victim.pidfd(), .events = POLLIN, .revents = 0},
                     {.fd = death.hangup_ms < 0 ? victim.socket() : -1, .events = POLLIN, .revents = 0}};
    poll(both, 2, 100);
    const double now_ms = ms_since(start);
    if (both[1].revents != 0) {
      death.hangup_ms = now_ms;
      on_hangup();
    }
    if (both[0].revents != 0) {
      pidfd_ms = now_ms;
      on_exit();
    }
  }
  death.pidfd_ms = pidfd_ms;
  watcher.join();
  victim.reap();
  return death;
}

// A client with as much memory of its own as stands for 1 GiB, all written to.
Puppet holder(Lab& lab) {
  Puppet puppet = lab.client();
  for (int slot = 10; slot < 14; ++slot) {
    const std::string name = std::to_string(slot);
    lab.is_ok(puppet.ask(with_bytes("create " + name, lab.extent())));
    lab.is_ok(puppet.ask("map " + name + " rw"));
    lab.is_ok(puppet.ask("fill " + name + " 3"));
  }
  return puppet;
}

struct Deaths {
  std::vector<double> hangup_ms, pidfd_ms, memory_ms, used_at_pidfd_mib;
  void add(const Death& death) {
    if (death.hangup_ms >= 0) hangup_ms.push_back(death.hangup_ms);
    if (death.pidfd_ms >= 0) pidfd_ms.push_back(death.pidfd_ms);
    if (death.memory_ms >= 0) memory_ms.push_back(death.memory_ms);
    used_at_pidfd_mib.push_back(death.used_at_pidfd_mib);
  }
  void note(Lab& lab) const {
    lab.note_all("hangup_ms", hangup_ms);
    lab.note_all("pidfd_ms", pidfd_ms);
    lab.note_all("memory_back_ms", memory_ms);
    lab.note_all("still_used_at_pidfd_mib", used_at_pidfd_mib);
  }
};

// D4: the victim's kernel writes into a chunk that another process watches. Does it write after we think it is dead?
void killed_running(Lab& lab) {
  Puppet owner = lab.owner();
  lab.is_ok(owner.ask(with_bytes("create 1", lab.extent())));
  const Reply exported = owner.ask("export 1");
  Puppet watcher = lab.client();
  take(lab, watcher, exported.fd.get());
  lab.is_ok(watcher.ask("fill 1 0"));
  const auto peek = [&] { return watcher.ask("peek 1").number("word"); };
  Deaths deaths;
  int was_ticking = 0;
  int ticked_after_hangup = 0;
  int ticked_after_pidfd = 0;
  std::vector<double> peek_ms;
  const auto start = Clock::now();
  for (int i = 0; i < 10 && ms_since(start) < 20'000; ++i) {
    const double base = lab.settled_mib(600);
    Puppet victim = holder(lab);
    take(lab, victim, exported.fd.get());
    lab.is_ok(victim.ask("tick 1"));
    const double first = peek();
    sleep_ms(5);
    const auto before = Clock::now();
    if (peek() != first) ++was_ticking;
    peek_ms.push_back(ms_since(before));
    double at_hangup = -1;
    double at_exit = -1;
    deaths.add(kill_and_watch(
        lab, victim, base, [&] { at_hangup = peek(); }, [&] { at_exit = peek(); }));
    if (at_hangup >= 0 && at_exit != at_hangup) ++ticked_after_hangup;
    sleep_ms(20);
    if (at_exit >= 0 && peek() != at_exit) ++ticked_after_pidfd;
  }
  lab.note("was_ticking", was_ticking);
  lab.note("ticked_between_hangup_and_pidfd", ticked_after_hangup);
  lab.note("ticked_after_pidfd", ticked_after_pidfd);
  lab.note_all("peek_ms", peek_ms);
  deaths.note(lab);
}

// G6.
void kills(Lab& lab) {
  Deaths deaths;
  std::vector<double> left_mib;
  const auto start = Clock::now();
  for (int i = 0; i < 20 && ms_since(start) < 24'000; ++i) {
    const double base = lab.settled_mib(600);
    Puppet victim = holder(lab);
    deaths.add(kill_and_watch(
        lab, victim, base, [] {}, [] {}));
    left_mib.push_back(lab.used_mib() - base);
  }
  deaths.note(lab);
  lab.note_all("left_mib", left_mib);
}

}  // namespace

std::vector<Experiment> death_experiments() {
  return {
      {.name = "exporter_killed", .seconds_max = 20, .is_alone = false, .run = exporter_killed},
      {.name = "descriptor_alone", .seconds_max = 20, .is_alone = true, .run = descriptor_alone},
      {.name = "killed_running", .seconds_max = 28, .is_alone = false, .run = killed_running},
      {.name = "kills", .seconds_max = 30, .is_alone = false, .run = kills},
  };
}

}  // namespace mesh::facts
