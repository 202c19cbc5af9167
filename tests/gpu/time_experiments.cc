// How long things take, and what a context and a shared segment cost.

#include <algorithm>

#include "tests/gpu/lab.h"

namespace mesh::facts {
namespace {

std::string with_bytes(const std::string& verb, uint64_t bytes) { return verb + " " + std::to_string(bytes); }

void context(Lab& lab) {
  double before = lab.settled_mib();
  std::vector<Puppet> puppets;
  for (const char* prefix : {"first_", "second_"}) {
    const auto start = Clock::now();
    Puppet& puppet = puppets.emplace_back(lab.spawn());
    lab.is_ok(puppet.ask("hello"));
    lab.note(std::string(prefix) + "process_start_ms", ms_since(start));
    lab.note_time(std::string(prefix) + "driver_init_ms", puppet.ask("open"));
    lab.note_time(std::string(prefix) + "context_ms", puppet.ask("enter"));
    const double entered = lab.settled_mib();
    lab.note(std::string(prefix) + "context_mib", entered - before);
    lab.note(std::string(prefix) + "context_mib_nvml", lab.used_mib_by(puppet.pid()).value_or(-1));
    lab.is_ok(puppet.ask("alloc 1 2097152"));
    lab.note_time(std::string(prefix) + "first_kernel_ms", puppet.ask("fill 1 1"));
    lab.note_time(std::string(prefix) + "second_kernel_ms", puppet.ask("fill 1 2"));
    const double loaded = lab.settled_mib();
    lab.note(std::string(prefix) + "module_and_2_mib", loaded - entered);
    before = loaded;
  }
}

// Microseconds in the text, medians of nine.
void calls(Lab& lab) {
  Puppet client = lab.client();
  Puppet owner = lab.owner();
  lab.is_ok(client.ask("bench 2097152 3"));
  for (const uint64_t size : {io::kMemoryUnitBytes, std::max(lab.extent() / 8, io::kMemoryUnitBytes), lab.extent()}) {
    const std::string key = std::to_string(size >> 20) + "_mib_us";
    for (auto* puppet : {&client, &owner}) {
      const Reply reply = puppet->ask(with_bytes("bench", size) + " 9");
      lab.note((puppet == &client ? "client_" : "owner_") + key, reply.text);
    }
  }
}

double sum_ms(Lab& lab, Puppet& puppet, const std::vector<std::string>& lines) {
  double us = 0;
  for (const std::string& line : lines) {
    const Reply reply = puppet.ask(line);
    if (lab.is_ok(reply)) us += reply.number("us");
  }
  return us / 1000;
}

struct Handed {
  double whole_ms = 0;   // with all messages
  double export_ms = 0;  // the calls alone
  double import_ms = 0;
  double map_ms = 0;
};

// Four extents, one after another, as the arbiter would.
Handed hand_over(Lab& lab, Puppet& owner, Puppet& taker) {
  Handed handed;
  const auto start = Clock::now();
  for (int slot = 1; slot <= 4; ++slot) {
    const std::string name = std::to_string(slot);
    const Reply exported = owner.ask("export " + name);
    const Reply imported = taker.ask(with_bytes("import " + name, lab.extent()), exported.fd.get());
    const Reply mapped = taker.ask("map " + name + " rw");
    if (!lab.is_ok(exported) || !lab.is_ok(imported) || !lab.is_ok(mapped)) return handed;
    handed.export_ms += exported.number("us") / 1000;
    handed.import_ms += imported.number("us") / 1000;
    handed.map_ms += mapped.number("us") / 1000;
  }
  handed.whole_ms = ms_since(start);
  return handed;
}

void upload(Lab& lab, Puppet& client) {
  for (const bool is_pinned : {true, false}) {
    std::vector<double> ms;
    for (int i = 0; i < 3; ++i) {
      const Reply reply = client.ask(is_pinned ? "upload 20 1" : "upload 20 0");
      if (lab.is_ok(reply)) ms.push_back(reply.number("copy_ns") / 1e6);
    }
    lab.note_all(is_pinned ? "reload_pinned_ms" : "reload_pageable_ms", ms);
  }
}

void allocate_as_usual(Lab& lab, Puppet& client) {
  std::vector<double> allocate_ms, free_ms;
  for (int i = 0; i < 7; ++i) {
    const Reply allocated = client.ask(with_bytes("alloc 20", lab.gib()));
    if (lab.is_ok(allocated)) allocate_ms.push_back(allocated.number("us") / 1000);
    if (i == 6) break;  // the last is uploaded to
    const Reply freed = client.ask("free 20");
    if (lab.is_ok(freed)) free_ms.push_back(freed.number("us") / 1000);
  }
  lab.note_all("cumemalloc_ms", allocate_ms);
  lab.note_all("cumemfree_ms", free_ms);
}

// G2: 1 GiB goes from one client to another and back, against what one would do without.
void handover(Lab& lab) {
  Puppet owner = lab.owner();
  for (int slot = 1; slot <= 4; ++slot)
    lab.is_ok(owner.ask(with_bytes("create " + std::to_string(slot), lab.extent())));
  Puppet clients[] = {lab.client(), lab.client()};
  std::vector<double> whole, exports, imports, maps, unmaps;
  for (int i = 0; i < 10; ++i) {
    Puppet& taker = clients[i % 2];
    const Handed handed = hand_over(lab, owner, taker);
    whole.push_back(handed.whole_ms);
    exports.push_back(handed.export_ms);
    imports.push_back(handed.import_ms);
    maps.push_back(handed.map_ms);
    const Reply checked = taker.ask("check 4 " + std::to_string(i));
    if (i > 0 && checked.number("wrong") != 0) lab.note_error("the taker does not see what the last one wrote");
    lab.is_ok(taker.ask("fill 4 " + std::to_string(i + 1)));
    unmaps.push_back(sum_ms(lab, taker, {"unmap 1", "unmap 2", "unmap 3", "unmap 4"}) +
                     sum_ms(lab, taker, {"release 1", "release 2", "release 3", "release 4"}));
  }
  lab.note_all("handed_ms", whole);
  lab.note_all("exports_ms", exports);
  lab.note_all("imports_ms", imports);
  lab.note_all("maps_ms", maps);
  lab.note_all("unmap_and_release_ms", unmaps);
  allocate_as_usual(lab, clients[0]);
  upload(lab, clients[0]);
}

void tell_all(Lab& lab, std::vector<Puppet>& puppets, size_t from, const std::string& line, int fd = -1) {
  for (size_t i = from; i < puppets.size(); ++i) puppets[i].tell(line, fd);
  for (size_t i = from; i < puppets.size(); ++i) lab.is_ok(puppets[i].hear());
}

// G3: one segment, read by N processes.
void sharing(Lab& lab) {
  const double base = lab.settled_mib();
  Puppet owner = lab.owner();
  std::vector<io::OwnedFd> fds;
  for (int slot = 1; slot <= 4; ++slot) {
    lab.is_ok(owner.ask(with_bytes("create " + std::to_string(slot), lab.extent())));
    fds.push_back(owner.ask("export " + std::to_string(slot)).fd);
  }
  const double segment_mib = lab.settled_mib() - base;
  lab.note("segment_mib", segment_mib);
  std::vector<Puppet> readers;
  for (const size_t count : {1U, 2U, 4U, 8U}) {
    const size_t before = readers.size();
    while (readers.size() < count) readers.push_back(lab.spawn());
    tell_all(lab, readers, before, "open");
    tell_all(lab, readers, before, "enter");
    for (size_t i = 0; i < fds.size(); ++i) {
      const std::string slot = std::to_string(i + 1);
      tell_all(lab, readers, before, with_bytes("import " + slot, lab.extent()), fds[i].get());
      tell_all(lab, readers, before, "map " + slot + (readers.size() == 1 ? " rw" : " ro"));
    }
    if (before == 0) tell_all(lab, readers, before, "fill 1 21");
    tell_all(lab, readers, before, "check 1 21");
    const double used = lab.settled_mib() - base;
    const std::string key = std::to_string(count) + "_readers_";
    lab.note(key + "used_mib", used);
    lab.note(key + "each_beside_segment_mib", (used - segment_mib) / static_cast<double>(count));
    lab.note(key + "last_by_nvml_mib", lab.used_mib_by(readers.back().pid()).value_or(-1));
  }
  readers.clear();
  owner.kill();
  fds.clear();
  lab.note("left_mib", lab.settled_mib(3000) - base);
}

}  // namespace

std::vector<Experiment> time_experiments() {
  return {
      {.name = "context", .seconds_max = 20, .is_alone = false, .run = context},
      {.name = "calls", .seconds_max = 20, .is_alone = false, .run = calls},
      {.name = "handover", .seconds_max = 20, .is_alone = false, .run = handover},
      {.name = "sharing", .seconds_max = 25, .is_alone = false, .run = sharing},
  };
}

}  // namespace mesh::facts
