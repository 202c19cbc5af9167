// mesh-sidecar: reads the configuration, builds the parts, runs until it is told to stop.
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include "sidecar/io/lmdb_store.h"
#include "sidecar/io/log_file.h"
#include "sidecar/io/loop.h"
#include "sidecar/io/packet_dialer.h"
#include "sidecar/io/reply_store.h"
#include "sidecar/io/shared_region.h"
#include "sidecar/proxy/config.h"
#include "sidecar/proxy/driver.h"

namespace {

using namespace mesh;  // main marries everything

constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;
constexpr int kExitConfig = 78;

constexpr char kUsage[] = R"(usage: mesh-sidecar --config FILE [--sidecar NAME]
       mesh-sidecar --check-config FILE

Runs one sidecar: agents on this host talk to its drop-in ports with the ZeroMQ sockets they have, and it carries
their requests to the agents of this and the other host.

  --config FILE         the host's JSON file; see deploy/mainpc.json and deploy/schema.json
  --sidecar NAME        which of the file's sidecars to run; not needed when it has one
  --check-config FILE   tells all errors of a file, each with its place and a hint, and exits

examples:
  mesh-sidecar --check-config /etc/mesh/mainpc.json
  mesh-sidecar --config /etc/mesh/mainpc.json --sidecar main

SIGTERM and SIGINT drain: nothing new is accepted, everything accepted is answered. A second one stops at once.
Exit codes: 0 stopped as told · 64 wrong usage · 69 a socket cannot be opened · 78 errors in the configuration
)";

struct Options {
  std::string file;
  std::string sidecar;
  bool check_only = false;
};

std::optional<Options> parse_options(int argc, char** argv) {
  const option known[] = {{"config", required_argument, nullptr, 'c'},
                          {"sidecar", required_argument, nullptr, 's'},
                          {"check-config", required_argument, nullptr, 'k'},
                          {"help", no_argument, nullptr, 'h'},
                          {nullptr, 0, nullptr, 0}};
  Options options;
  for (int got = 0; (got = getopt_long(argc, argv, "h", known, nullptr)) != -1;) {
    if (got == 'c') options.file = optarg;
    if (got == 's') options.sidecar = optarg;
    if (got == 'k') options.file = optarg, options.check_only = true;
    if (got == 'h') std::fputs(kUsage, stdout), std::exit(0);
    if (got == '?') return std::nullopt;
  }
  if (options.file.empty() || optind != argc) return std::nullopt;
  return options;
}

std::optional<proxy::ConfigResult> load(const Options& options) {
  std::ifstream file(options.file);
  if (!file) {
    std::fprintf(stderr, "mesh-sidecar: cannot read %s\n", options.file.c_str());
    return std::nullopt;
  }
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  proxy::ConfigResult result = proxy::parse_config(text, options.sidecar, options.check_only);
  for (const auto& [kind, findings] : {std::pair{"error", &result.errors}, {"warning", &result.warnings}}) {
    for (const proxy::ConfigError& finding : *findings) {
      std::fprintf(stderr, "%s: %s %s: %s%s%s\n", options.file.c_str(), kind,
                   finding.path.empty() ? "/" : finding.path.c_str(), finding.text.c_str(),
                   finding.hint.empty() ? "" : " — ", finding.hint.c_str());
    }
  }
  return result;
}

// As many files as the system lets this process have, less some for itself.
size_t raise_connections_max() {
  constexpr rlim_t kOwnFiles = 64;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return limits::connections_max;
  const rlim_t wanted = limits::connections_max + kOwnFiles;
  if (files.rlim_cur < wanted) {
    rlimit raised = files;
    raised.rlim_cur = std::min(wanted, files.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) files = raised;
  }
  return std::min<rlim_t>(wanted, files.rlim_cur) - kOwnFiles;
}

uint64_t random_number() {
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != sizeof(number)) number = static_cast<uint64_t>(getpid());
  return number;
}

void make_directory_of(const std::string& path) {
  const std::string directory = path.substr(0, path.rfind('/'));
  if (!directory.empty()) mkdir(directory.c_str(), 0750);  // if it cannot be made, opening the socket says so
}

// Leaves a note for the next one in the runtime directory, which goes with the computer's start. One that was killed
// left its socket, too.
bool is_successor(const proxy::SidecarConfig& config) {
  struct stat left {};
  if (lstat(config.admin_path.c_str(), &left) == 0) return true;
  const std::string note = config.admin_path + ".ran";
  const int file = open(note.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return true;
  close(file);
  return false;
}

// For the results of durable methods, if there are any. Without it they are refused, and all others work.
std::unique_ptr<RecordStore> open_store(io::Loop& loop, const proxy::SidecarConfig& config, io::Log& log) {
  if (config.data_path.empty()) return nullptr;
  auto opened = loop.open_store(config.data_path, limits::store_bytes);
  if (opened) return std::move(*opened);
  log.write(io::LogLevel::kError, "store_unavailable", {{"text", opened.error().text}, {"hint", opened.error().hint}});
  return nullptr;
}

// For replies that the sidecars of the host share, if any are kept. Without it each keeps its own.
struct SharedMemory {
  std::unique_ptr<io::SharedRegion> region;
  std::optional<cache::SharedTier> tier;
};

SharedMemory open_shared_memory(const proxy::SidecarConfig& config, io::Log& log) {
  SharedMemory memory;
  const uint64_t sixteenth =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) / 16;
  const uint64_t bytes =
      config.limits.cache_shared_bytes.value_or(std::min<uint64_t>(limits::cache_shared_bytes, sixteenth));
  if (config.shared_path.empty() || bytes < cache::kSharedRegionBytesMin) return memory;
  make_directory_of(config.shared_path);
  const auto complain = [&](const Error& error) {
    log.write(io::LogLevel::kError, "shared_memory_unavailable", {{"text", error.text}, {"hint", error.hint}});
  };
  auto region = io::SharedRegion::open(config.shared_path, bytes);
  if (!region) {
    complain(region.error());
    return memory;
  }
  auto tier = cache::SharedTier::attach((*region)->memory(), **region, random_number() | 1);
  if (!tier) {
    complain(tier.error());
    return memory;
  }
  memory.region = std::move(*region);
  memory.tier = std::move(*tier);
  return memory;
}

std::unique_ptr<ReplyStore> open_replies(io::Loop& loop, const proxy::SidecarConfig& config) {
  if (config.replies_path.empty() || config.limits.cache_disk_bytes == 0) return nullptr;
  make_directory_of(config.replies_path);
  return loop.open_reply_store(config.replies_path, config.limits.cache_disk_bytes);
}

// Of what the arbiter of GPU memory says; see proto/lease.proto.
constexpr size_t kLeasePacketBytes_max = 32 * limits::KiB;

int run(const proxy::SidecarConfig& config) {
  io::Log log(STDERR_FILENO);
  make_directory_of(config.admin_path);

  SharedMemory shared = open_shared_memory(config, log);
  io::Loop loop;
  const auto store = open_store(loop, config, log);
  const auto replies = open_replies(loop, config);
  std::optional<io::PacketDialer> arbiter;
  if (!config.arbiter_path.empty()) arbiter.emplace(loop, config.arbiter_path, kLeasePacketBytes_max);
  proxy::Driver driver(
      loop, config,
      {.is_successor = is_successor(config),
       .seed = random_number(),
       .epoch = random_number(),
       .log =
           [&](std::string_view event, std::string_view who, std::string_view text) {
             log.write(io::LogLevel::kInfo, event, {{"who", std::string(who)}, {"text", std::string(text)}}, who);
           },
       .audit =
           [&](std::string_view event, std::string_view who, std::string_view text) {
             log.write(io::LogLevel::kInfo, event, {{"who", std::string(who)}, {"text", std::string(text)}});
           },
       .own_uid = geteuid(),
       .connections_max = raise_connections_max(),
       .release_memory = [] { malloc_trim(0); },
       .shared = shared.tier ? &*shared.tier : nullptr,
       .replies = replies.get(),
       .records = store.get(),
       .arbiter = arbiter ? &*arbiter : nullptr,
       .on_drained = [&] { loop.stop(); }});
  loop.set_turn_observer(&driver);
  if (auto started = driver.start(); !started) {
    log.write(io::LogLevel::kError, "start_failed", {{"text", started.error().text}, {"hint", started.error().hint}});
    loop.set_turn_observer(nullptr);
    return kExitUnavailable;
  }
  if (config.insecure)
    log.write(io::LogLevel::kWarning, "insecure", {{"text", "links to other hosts are not encrypted"}});
  bool stopping = false;
  for (const int signum : {SIGTERM, SIGINT}) {
    loop.on_signal(signum, [&] {
      if (std::exchange(stopping, true)) return loop.stop();
      log.write(io::LogLevel::kInfo, "draining", {});
      driver.begin_drain();
    });
  }
  log.write(io::LogLevel::kInfo, "ready",
            {{"host", config.host}, {"sidecar", config.sidecar}, {"admin", config.admin_path}});
  loop.run();
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
  const auto loaded = load(*options);
  if (!loaded) return kExitConfig;
  if (!loaded->errors.empty()) return kExitConfig;
  if (options->check_only) {
    std::printf("%s: no errors\n", options->file.c_str());
    return 0;
  }
  signal(SIGPIPE, SIG_IGN);
  // A large block of which little came yet must not cost what all of it would.
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  // Blocks of large messages go back to the system when they are freed, however many there were before.
  mallopt(M_MMAP_THRESHOLD, 2 * limits::MiB);
  return run(loaded->config);
}
