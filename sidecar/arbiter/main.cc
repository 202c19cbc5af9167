// mesh-arbiter: opens the cards, takes over from the arbiter before, runs until it is told to stop.
#include <fcntl.h>
#include <getopt.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "sidecar/arbiter/driver.h"
#include "sidecar/io/gpu/cuda_device.h"
#include "sidecar/io/gpu/memfd_device.h"
#include "sidecar/io/log_file.h"
#include "sidecar/io/record_form.h"

namespace {

using namespace mesh;  // main marries everything

constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;

constexpr char kUsage[] =
    R"(usage: mesh-arbiter --device DEVICE [--device DEVICE...] [--runtime-dir DIR] [--data-dir DIR]
                    [--reserve SIZE] [--no-keeper]

Leases the memory of this host's GPUs to the agents on it: who asks is granted what is free, waits his turn, or has
others asked to yield for him; nobody runs out of memory that he was granted.

  --device cuda         all NVIDIA GPUs that the driver shows (CUDA_VISIBLE_DEVICES holds)
  --device memfd:SIZE   a card of this size made of files in memory, for hosts without a GPU; may be repeated
  --runtime-dir DIR     where the sockets are: gpu.leases for agents, gpu.admin for questions; /run/mesh if not given
  --data-dir DIR        where the journal is; the runtime directory if not given. Nothing in it outlives the computer
  --reserve SIZE        kept back on each card for emergencies; 512M if not given
  --no-keeper           without the process that holds memory while the arbiter is restarted

SIZE is bytes, or has M or G behind it. See and order with meshctl gpu, or ask the admin socket for gpus, leases, queue,
segments, models, decisions, counters or plan BYTES [PRIORITY]; it obeys evict LEASE, drain GPU and undrain GPU:

  mesh-arbiter --device memfd:4G --runtime-dir /tmp/arbiter
  meshctl gpu --admin /tmp/arbiter/gpu.admin
  echo queue | nc -U /tmp/arbiter/gpu.admin

The process that was started holds the memory; its child is the arbiter, and is started again when it is killed. Agents
go on meanwhile. SIGTERM and SIGINT end both.
Exit codes: 0 stopped as told · 64 wrong usage · 69 a card, a socket or a directory cannot be used
)";

struct Options {
  bool has_cuda = false;
  std::vector<uint64_t> memfd_bytes;
  std::string runtime_dir = "/run/mesh";
  std::string data_dir;
  uint64_t reserve_bytes = 512 * gpu::kMiB;
  bool has_keeper = true;
};

std::optional<uint64_t> parse_size(std::string_view text) {
  uint64_t unit = 1;
  if (text.ends_with('M')) unit = gpu::kMiB;
  if (text.ends_with('G')) unit = gpu::kGiB;
  if (unit > 1) text.remove_suffix(1);
  uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  constexpr uint64_t kMax = uint64_t{1} << 50;
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || number > kMax / unit) return std::nullopt;
  return number * unit;
}

bool add_device(Options& options, std::string_view text) {
  if (text == "cuda") return options.has_cuda = true;
  if (!text.starts_with("memfd:")) return false;
  const auto bytes = parse_size(text.substr(6));
  if (!bytes || *bytes == 0 || *bytes % gpu::kUnitBytes != 0) return false;
  options.memfd_bytes.push_back(*bytes);
  return true;
}

std::optional<Options> parse_options(int argc, char** argv) {
  const option known[] = {{"device", required_argument, nullptr, 'd'},
                          {"runtime-dir", required_argument, nullptr, 'r'},
                          {"data-dir", required_argument, nullptr, 'a'},
                          {"reserve", required_argument, nullptr, 'e'},
                          {"no-keeper", no_argument, nullptr, 'k'},
                          {"help", no_argument, nullptr, 'h'},
                          {nullptr, 0, nullptr, 0}};
  Options options;
  for (int got = 0; (got = getopt_long(argc, argv, "h", known, nullptr)) != -1;) {
    if (got == 'd' && !add_device(options, optarg)) return std::nullopt;
    if (got == 'r') options.runtime_dir = optarg;
    if (got == 'a') options.data_dir = optarg;
    if (got == 'e') {
      const auto bytes = parse_size(optarg);
      if (!bytes) return std::nullopt;
      options.reserve_bytes = *bytes;
    }
    if (got == 'k') options.has_keeper = false;
    if (got == 'h') std::fputs(kUsage, stdout), std::exit(0);
    if (got == '?') return std::nullopt;
  }
  if (options.data_dir.empty()) options.data_dir = options.runtime_dir;
  if (optind != argc || (!options.has_cuda && options.memfd_bytes.empty())) return std::nullopt;
  return options;
}

// A descriptor for each chunk, and for each agent two.
void raise_files_max() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

// Held by the keeper and the arbiter, as long as either lives.
bool lock(const std::string& directory) {
  mkdir(directory.c_str(), 0750);
  const std::string path = directory + "/gpu.lock";
  const int file = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0) return true;
  std::fprintf(stderr, "mesh-arbiter: cannot lock %s: %s\n", path.c_str(),
               file < 0 ? "it cannot be written" : "another arbiter has it");
  return false;
}

gpu::LeaseId random_id() {
  gpu::LeaseId id;
  do {
    if (getrandom(&id, sizeof(id), 0) != sizeof(id)) std::abort();
  } while (!id);
  return id;
}

using OpenedDevice = io::MemoryResult<std::unique_ptr<io::DeviceMemory>>;

template <class Device>
OpenedDevice upcast(io::MemoryResult<std::unique_ptr<Device>> opened) {
  if (!opened) return tl::unexpected(opened.error());
  return std::unique_ptr<io::DeviceMemory>(std::move(*opened));
}

struct Card {
  std::string uuid;
  std::unique_ptr<io::DeviceMemory> device;
  std::unique_ptr<io::DeviceMemory> sensor;
};

std::vector<Card> open_cards(const Options& options, io::Log& log) {
  std::vector<Card> cards;
  const auto add = [&](OpenedDevice device, OpenedDevice sensor) {
    if (device && sensor) {
      cards.push_back({(*device)->caps().uuid, std::move(*device), std::move(*sensor)});
      return true;
    }
    const io::MemoryError& error = device ? sensor.error() : device.error();
    if (cards.empty()) log.write(io::LogLevel::kError, "device_unavailable", {{"text", error.text}});
    return false;
  };
  for (int i = 0; options.has_cuda && cards.size() < gpu::bounds::gpus_max; ++i) {
    if (!add(upcast(io::CudaDevice::open({.ordinal = i, .watches = false})),
             upcast(io::CudaDevice::open({.ordinal = i, .watches = true}))))
      break;
  }
  for (size_t i = 0; i < options.memfd_bytes.size() && cards.size() < gpu::bounds::gpus_max; ++i) {
    const io::MemfdConfig config{options.memfd_bytes[i], options.runtime_dir + "/gpu-" + std::to_string(i) + ".book"};
    if (!add(upcast(io::MemfdDevice::open(config)), upcast(io::MemfdDevice::open(config)))) break;
  }
  std::sort(cards.begin(), cards.end(), [](const Card& a, const Card& b) { return a.uuid < b.uuid; });
  return cards;
}

// The order of UUIDs is that of the numbers here.
std::optional<arbiter::GpuConfig> describe(const Card& card, size_t number, const Options& options, io::Log& log) {
  const auto reading = card.sensor->query_device();
  if (!reading) {
    log.write(io::LogLevel::kError, "device_unavailable", {{"gpu", card.uuid}, {"text", reading.error().text}});
    return std::nullopt;
  }
  arbiter::GpuConfig config;
  config.uuid = {0, number + 1};
  config.card.total = static_cast<gpu::Units>(reading->total_bytes / gpu::kUnitBytes);
  config.card.driver_reserved = gpu::units_of(reading->driver_bytes.value_or(0));
  config.card.emergency = gpu::units_of(options.reserve_bytes);
  if (reading->thermal && reading->thermal->slowdown_c) config.thermal.slowdown_c = *reading->thermal->slowdown_c;
  return config;
}

bool fill(arbiter::DriverParts& parts, const Options& options, io::Log& log) {
  std::vector<Card> cards = open_cards(options, log);
  for (Card& card : cards) {
    const auto config = describe(card, parts.uuids.size(), options, log);
    if (!config) return false;
    parts.config.gpus.push_back(*config);
    parts.config.sees_processes = parts.config.sees_processes && card.sensor->caps().tells_processes;
    parts.uuids.push_back(card.uuid);
    parts.devices.push_back(std::move(card.device));
    parts.sensors.push_back(std::move(card.sensor));
  }
  parts.scope = arbiter::encode_scope(io::current_boot_id(), parts.uuids);
  parts.lease_path = options.runtime_dir + "/gpu.leases";
  parts.admin_path = options.runtime_dir + "/gpu.admin";
  parts.new_id = random_id;
  return !cards.empty();
}

int run(const Options& options, io::OwnedFd keeper) {
  io::Log log(STDERR_FILENO);
  mkdir(options.data_dir.c_str(), 0750);
  std::vector<std::string> records;
  auto journal = io::JournalFile::open(options.data_dir + "/gpu.journal", records);
  if (!journal) {
    log.write(io::LogLevel::kError, "start_failed", {{"text", journal.error().text}, {"hint", journal.error().hint}});
    return kExitUnavailable;
  }
  arbiter::DriverParts parts{.journal = std::move(*journal), .journal_records = std::move(records)};
  parts.log = [&log](std::string_view event, std::string_view who, std::string_view text) {
    log.write(io::LogLevel::kInfo, event, {{"who", std::string(who)}, {"text", std::string(text)}},
              who.empty() ? event : who);
  };
  if (!fill(parts, options, log)) return kExitUnavailable;
  if (keeper) parts.keeper = std::make_unique<io::DescriptorKeeper>(std::move(keeper));
  const size_t gpus = parts.uuids.size();

  io::Loop loop;
  arbiter::Driver driver(loop, std::move(parts));
  if (auto started = driver.start(); !started) {
    log.write(io::LogLevel::kError, "start_failed", {{"text", started.error().text}, {"hint", started.error().hint}});
    return kExitUnavailable;
  }
  loop.set_turn_observer(&driver);
  for (const int signum : {SIGTERM, SIGINT}) loop.on_signal(signum, [&] { loop.stop(); });
  log.write(io::LogLevel::kInfo, "ready",
            {{"leases", options.runtime_dir + "/gpu.leases"}, {"gpus", std::to_string(gpus)}});
  loop.run();
  loop.set_turn_observer(nullptr);
  log.write(io::LogLevel::kInfo, "stopped", {});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = parse_options(argc, argv);
  if (!options) {
    std::fputs(kUsage, stderr);
    return kExitUsage;
  }
  signal(SIGPIPE, SIG_IGN);
  raise_files_max();
  if (!lock(options->runtime_dir)) return kExitUnavailable;
  if (!options->has_keeper) return run(*options, {});
  return io::keep_descriptors_for([&](io::OwnedFd keeper) { return run(*options, std::move(keeper)); });
}
