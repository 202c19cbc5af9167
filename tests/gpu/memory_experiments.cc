// What is what on this card, who is charged, what a mapping allows, and what a driver does with nonsense.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "tests/gpu/lab.h"

namespace mesh::facts {
namespace {

std::string with_bytes(const std::string& verb, uint64_t bytes) { return verb + " " + std::to_string(bytes); }

void note_sensors(Lab& lab) {
  io::Nvml* const nvml = lab.nvml();
  if (nvml == nullptr) return;
  if (const auto version = nvml->driver_version()) lab.note("driver_version", *version);
  if (const auto name = nvml->name(lab.watched())) lab.note("nvml_name", *name);
  if (const auto uuid = nvml->uuid(lab.watched())) lab.note("nvml_uuid", *uuid);
  if (const auto memory = nvml->memory(lab.watched())) {
    lab.note("nvml_total_mib", static_cast<double>(memory->total_bytes) / kMiB);
    lab.note("nvml_used_mib", static_cast<double>(memory->used_bytes) / kMiB);
    lab.note("nvml_reserved_mib", static_cast<double>(memory->driver_bytes.value_or(0)) / kMiB);
  }
  const io::NvmlDetails all = nvml->details(lab.watched());
  const auto note_if = [&](const char* key, const auto& value) {
    if (value) lab.note(key, static_cast<double>(*value));
    if (!value) lab.note(key, "not told");
  };
  note_if("temperature_c", all.temperature_c);
  note_if("threshold_shutdown_c", all.shutdown_c);
  note_if("threshold_slowdown_c", all.slowdown_c);
  note_if("threshold_memory_max_c", all.memory_max_c);
  note_if("threshold_gpu_max_c", all.gpu_max_c);
  note_if("power_mw", all.power_mw);
  note_if("busy_percent", all.busy_percent);
  note_if("clocks_slowed_by_bits", all.slowed_by);
  const auto processes = nvml->processes(lab.watched());
  lab.note("nvml_processes", processes ? std::to_string(processes->size()) : processes.error().text);
}

void device(Lab& lab) {
  utsname system{};
  uname(&system);
  lab.note("kernel", system.release);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  lab.note("descriptors_max", static_cast<double>(files.rlim_cur));
  Puppet puppet = lab.spawn();
  constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD
  int pidfd = -1;
  socklen_t size = sizeof(pidfd);
  const bool has_it = getsockopt(puppet.socket(), SOL_SOCKET, kPeerPidfd, &pidfd, &size) == 0;
  io::OwnedFd taken(pidfd);
  lab.note("so_peerpidfd", has_it ? "yes" : "no");
  const Reply opened = puppet.ask("open");
  lab.note("device", opened.text);
  lab.note("create_102", opened.number("create"));
  lab.note("export_103", opened.number("export"));
  lab.note("granularity_bytes", opened.number("granularity"));
  lab.note("granularity_recommended_bytes", opened.number("recommended"));
  note_sensors(lab);
  std::vector<double> query_us;
  for (int i = 0; i < 50; ++i) {
    const auto before = Clock::now();
    lab.used_mib();
    query_us.push_back(ms_since(before) * 1000);
  }
  lab.note_all("query_memory_us", query_us);
  query_us.clear();
  for (int i = 0; i < 50; ++i) {
    const auto before = Clock::now();
    lab.used_mib_by(0);
    query_us.push_back(ms_since(before) * 1000);
  }
  lab.note_all("query_processes_us", query_us);
}

void note_by(Lab& lab, const std::string& key, const Puppet& puppet) {
  const auto used = lab.used_mib_by(puppet.pid());
  if (used) lab.note(key, *used);
  if (!used) lab.note(key, "not listed");
}

// D2: the owner has no context.
void no_context(Lab& lab) {
  const double base = lab.settled_mib();
  lab.note("base_mib", base);
  Puppet owner = lab.owner();
  lab.note("open_costs_mib", lab.settled_mib() - base);
  note_by(lab, "nvml_says_after_open", owner);
  lab.note_time("create_ms", owner.ask(with_bytes("create 1", lab.extent())));
  const double own_mib = static_cast<double>(lab.extent()) / kMiB;
  lab.note("create_costs_beyond_chunk_mib", lab.settled_mib() - base - own_mib);
  note_by(lab, "nvml_says_after_create", owner);
  Reply exported = owner.ask("export 1");
  lab.note_time("export_ms", exported);
  lab.note("export_costs_mib", lab.settled_mib() - base - own_mib);
  note_by(lab, "nvml_says_after_export", owner);
  lab.note_answer("import_without_context", owner.ask(with_bytes("import 2", lab.extent()), exported.fd.get()));
  lab.note_answer("map_without_context", owner.ask("map 2 rw"));
  note_by(lab, "nvml_says_after_map", owner);
  lab.note("map_costs_mib", lab.settled_mib() - base - own_mib);
  lab.note_answer("unmap_without_context", owner.ask("unmap 2"));
  owner.ask("release 2");
  lab.note_time("release_ms", owner.ask("release 1"));
  lab.note("left_while_fd_open_mib", lab.settled_mib() - base);
  exported.fd.reset();
  lab.note("left_after_close_mib", lab.settled_mib() - base);
  owner.kill();
  lab.note("left_after_kill_mib", lab.settled_mib() - base);
}

void note_charges(Lab& lab, const std::string& when, double base, const Puppet& owner, const Puppet& importer) {
  lab.note(when + "_device_mib", lab.settled_mib() - base);
  note_by(lab, when + "_owner_mib", owner);
  note_by(lab, when + "_importer_mib", importer);
}

// D16: whom NVML charges.
void charged(Lab& lab) {
  for (const bool has_context : {false, true}) {
    const std::string prefix = has_context ? "owner_with_context_" : "owner_without_context_";
    Puppet importer = lab.client();
    Puppet owner = has_context ? lab.client() : lab.owner();
    const double base = lab.settled_mib();
    note_charges(lab, prefix + "0_before", base, owner, importer);
    lab.is_ok(owner.ask(with_bytes("create 1", lab.extent())));
    note_charges(lab, prefix + "1_created", base, owner, importer);
    if (has_context) {
      lab.is_ok(owner.ask("map 1 rw"));
      note_charges(lab, prefix + "2_owner_mapped", base, owner, importer);
    }
    Reply exported = owner.ask("export 1");
    lab.is_ok(importer.ask(with_bytes("import 1", lab.extent()), exported.fd.get()));
    exported.fd.reset();
    note_charges(lab, prefix + "3_imported", base, owner, importer);
    lab.is_ok(importer.ask("map 1 rw"));
    note_charges(lab, prefix + "4_mapped", base, owner, importer);
    if (has_context) owner.ask("unmap 1");
    owner.ask("release 1");
    note_charges(lab, prefix + "5_owner_released", base, owner, importer);
    owner.kill();
    note_charges(lab, prefix + "6_owner_killed", base, owner, importer);
  }
}

void read_only(Lab& lab) {
  Puppet owner = lab.client();
  lab.is_ok(owner.ask(with_bytes("create 1", lab.extent())));
  lab.is_ok(owner.ask("map 1 rw"));
  lab.is_ok(owner.ask("fill 1 7"));
  lab.is_ok(owner.ask("seal 1"));
  const Reply exported = owner.ask("export 1");
  Puppet reader = lab.client();
  lab.is_ok(reader.ask(with_bytes("import 1", lab.extent()), exported.fd.get()));
  lab.note_answer("map_read_only", reader.ask("map 1 ro"));
  lab.note("reader_sees_wrong_words", reader.ask("check 1 7").number("wrong"));
  lab.note_answer("kernel_writes_to_read_only", reader.ask("fill 1 8"));
  lab.note_answer("reader_afterwards", reader.ask("peek 1"));
  const Reply after_fault = owner.ask("check 1 7");
  if (lab.is_ok(after_fault)) lab.note("owner_sees_wrong_words_after_it", after_fault.number("wrong"));
  Puppet hostile = lab.client();
  lab.is_ok(hostile.ask(with_bytes("import 1", lab.extent()), exported.fd.get()));
  lab.note_answer("hostile_maps_writable", hostile.ask("map 1 rw"));
  lab.note_answer("hostile_writes", hostile.ask("fill 1 9"));
  const Reply after_hostile = owner.ask("check 1 7");
  if (lab.is_ok(after_hostile)) lab.note("owner_sees_words_of_the_hostile", after_hostile.number("wrong"));
}

void import_nonsense(Lab& lab, Puppet& client) {
  const std::string import = with_bytes("import 9", lab.extent());
  const io::OwnedFd file(memfd_create("no chunk", MFD_CLOEXEC));
  const io::OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  lab.note_answer("import_of_a_file", client.ask(import, file.get()));
  lab.note_answer("import_of_dev_null", client.ask(import, null.get()));
  lab.note_answer("import_of_a_socket", client.ask(import, client.socket()));
  lab.note_answer("import_of_nothing", client.ask(import));
}

void unusual(Lab& lab) {
  Puppet owner = lab.owner();
  lab.is_ok(owner.ask(with_bytes("create 1", lab.extent())));
  const Reply exported = owner.ask("export 1");
  {
    Puppet client = lab.client();
    import_nonsense(lab, client);
    lab.note_answer("import_twice_1", client.ask(with_bytes("import 1", lab.extent()), exported.fd.get()));
    lab.note_answer("import_twice_2", client.ask(with_bytes("import 2", lab.extent()), exported.fd.get()));
    lab.note_answer("map_twice_1", client.ask("map 1 rw"));
    lab.note_answer("map_twice_2", client.ask("map 2 rw"));
    lab.is_ok(client.ask("fill 1 5"));
    lab.note("second_mapping_wrong_words", client.ask("check 2 5").number("wrong"));
  }
  {
    Puppet client = lab.client();
    lab.note_answer("import_as_half", client.ask(with_bytes("import 1", lab.extent() / 2), exported.fd.get()));
    lab.note_answer("map_half", client.ask("map 1 rw"));
    lab.note_answer("import_as_double", client.ask(with_bytes("import 2", lab.extent() * 2), exported.fd.get()));
    lab.note_answer("map_double", client.ask("map 2 rw"));
  }
}

// How much can be had, and how a full card says no.
void full_card(Lab& lab) {
  const double base = lab.settled_mib();
  Puppet owner = lab.owner();
  int slot = 1;
  double got_mib = 0;
  std::string refusal;
  const auto before = Clock::now();
  for (uint64_t bytes = lab.gib() * 4; bytes >= uint64_t{2} << 20; bytes /= 2) {
    while (ms_since(before) < 8000) {
      const Reply reply = owner.ask("create " + std::to_string(slot) + " " + std::to_string(bytes));
      if (!reply.is_ok) {
        refusal = reply.text;
        break;
      }
      got_mib += static_cast<double>(bytes) / kMiB;
      ++slot;
    }
  }
  lab.note("got_mib", got_mib);
  lab.note("chunks", slot - 1);
  lab.note("took_ms", ms_since(before));
  lab.note("refusal", refusal);
  lab.note("used_when_full_mib", lab.used_mib());
  Puppet late = lab.owner();
  lab.note_answer("context_on_a_full_card", late.ask("enter"));
  const auto killed = Clock::now();
  owner.kill();
  lab.note("kill_took_ms", ms_since(killed));
  late.kill();
  lab.note("left_mib", lab.settled_mib(4000) - base);
}

// Is what one wrote read by the next?
void scrub(Lab& lab) {
  for (const bool is_killed : {false, true}) {
    const std::string prefix = is_killed ? "after_kill_" : "after_release_";
    Puppet writer = lab.client();
    lab.is_ok(writer.ask(with_bytes("create 1", lab.gib())));
    lab.is_ok(writer.ask("map 1 rw"));
    lab.is_ok(writer.ask("fill 1 77"));
    if (is_killed) writer.kill();
    if (!is_killed) lab.is_ok(writer.ask("unmap 1"));
    if (!is_killed) lab.is_ok(writer.ask("release 1"));
    lab.settled_mib();
    Puppet reader = lab.client();
    lab.is_ok(reader.ask(with_bytes("create 1", lab.gib())));
    lab.is_ok(reader.ask("map 1 rw"));
    const Reply checked = reader.ask("check 1 77");
    if (!lab.is_ok(checked)) continue;
    lab.note(prefix + "words_read_of_the_last", static_cast<double>(lab.gib() / 4) - checked.number("wrong"));
    lab.note(prefix + "first_word", reader.ask("peek 1").number("word"));
  }
}

}  // namespace

std::vector<Experiment> memory_experiments() {
  return {
      {.name = "device", .seconds_max = 20, .is_alone = false, .run = device},
      {.name = "no_context", .seconds_max = 20, .is_alone = false, .run = no_context},
      {.name = "charged", .seconds_max = 20, .is_alone = false, .run = charged},
      {.name = "read_only", .seconds_max = 20, .is_alone = false, .run = read_only},
      {.name = "unusual", .seconds_max = 20, .is_alone = false, .run = unusual},
      {.name = "scrub", .seconds_max = 20, .is_alone = false, .run = scrub},
      {.name = "full_card", .seconds_max = 20, .is_alone = false, .run = full_card},
  };
}

}  // namespace mesh::facts
