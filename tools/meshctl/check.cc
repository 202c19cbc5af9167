#include "tools/meshctl/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "tools/meshctl/link_socket.h"

namespace mesh::ctl {
namespace {

using Verdict = Finding::Verdict;
constexpr int kConnectWait_ms = 1000;

std::string octal(unsigned mode) {
  std::string text;
  for (int shift = 9; shift >= 0; shift -= 3) text += static_cast<char>('0' + (mode >> shift & 7));
  return text;
}

// Connects without waiting longer than kConnectWait_ms; empty if somebody accepts, else why not.
std::string connect_problem(int domain, const sockaddr* where, socklen_t bytes) {
  const int fd = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::strerror(errno);
  int problem = connect(fd, where, bytes) == 0 ? 0 : errno;
  if (problem == EINPROGRESS) {
    pollfd writable{.fd = fd, .events = POLLOUT, .revents = 0};
    socklen_t size = sizeof problem;
    problem = ETIMEDOUT;
    if (poll(&writable, 1, kConnectWait_ms) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
  }
  close(fd);
  return problem == 0 ? "" : std::strerror(problem);
}

std::string connect_problem(const Endpoint& endpoint) {
  if (endpoint.is_ipc) {
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    if (endpoint.address.size() >= sizeof path.sun_path) return "the path is too long";
    std::memcpy(path.sun_path, endpoint.address.data(), endpoint.address.size());
    return connect_problem(AF_UNIX, reinterpret_cast<const sockaddr*>(&path), sizeof path);
  }
  const std::string address = endpoint.address == "0.0.0.0" ? "127.0.0.1"
                              : endpoint.address == "::"    ? "::1"
                                                            : endpoint.address;
  sockaddr_in ip4{};
  sockaddr_in6 ip6{};
  ip4.sin_family = AF_INET;
  ip4.sin_port = htons(endpoint.port);
  ip6.sin6_family = AF_INET6;
  ip6.sin6_port = htons(endpoint.port);
  const bool is_ip4 = inet_pton(AF_INET, address.c_str(), &ip4.sin_addr) == 1;
  if (!is_ip4 && inet_pton(AF_INET6, address.c_str(), &ip6.sin6_addr) != 1) return "is no address";
  if (is_ip4) return connect_problem(AF_INET, reinterpret_cast<const sockaddr*>(&ip4), sizeof ip4);
  return connect_problem(AF_INET6, reinterpret_cast<const sockaddr*>(&ip6), sizeof ip6);
}

class Checker {
 public:
  std::vector<Finding> findings;

  void add(bool good, std::string about, std::string text, std::string hint) {
    findings.push_back(
        {good ? Verdict::kGood : Verdict::kBad, std::move(about), std::move(text), good ? "" : std::move(hint)});
  }
  void warn(std::string about, std::string text, std::string hint) {
    findings.push_back({Verdict::kWarning, std::move(about), std::move(text), std::move(hint)});
  }

  void skip(std::string about, std::string text, std::string hint) {
    findings.push_back({Verdict::kSkipped, std::move(about), std::move(text), std::move(hint)});
  }

  void check_files(const Targets& targets, const std::vector<std::string>& files) {
    for (const std::string& file : files) {
      bool has_errors = false;
      for (const ConfigFinding& found : targets.findings) {
        if (found.file != file) continue;
        has_errors = has_errors || found.is_error;
        const std::string text = (found.finding.path.empty() ? "" : found.finding.path + " ") + found.finding.text;
        if (found.is_error) {
          add(false, file, text, found.finding.hint);
        } else {
          warn(file, text, found.finding.hint);
        }
      }
      if (!has_errors) add(true, file, "no errors", "");
    }
  }

  void check_mode(const std::string& about, const std::string& path, unsigned allowed) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0)
      return add(false, about, path + ": " + std::strerror(errno), "is the sidecar running?");
    const unsigned mode = info.st_mode & 07777;
    add((mode & ~allowed) == 0, about, path + " has mode " + octal(mode),
        "chmod " + octal(allowed) + " " + path + ": others can open it");
  }

  // One that answered to "health".
  void check_sidecar(const Target& target, const Json& health) {
    const std::string name = target.name();
    const proxy::SidecarConfig& config = target.config;
    const std::string version = text_at(health, "version");
    versions_.insert(version.empty() ? "unknown" : version);
    add(text_at(health, "status") != "draining", name, "answers, version " + (version.empty() ? "unknown" : version),
        "it is shutting down: start it again");
    check_mode(name + " admin socket", config.admin_path, 0600);
    check_mode(name + " directory", config.admin_path.substr(0, config.admin_path.rfind('/')), 0750);
    if (config.mesh_socket) {
      if (config.mesh_socket->is_ipc) check_mode(name + " mesh socket", config.mesh_socket->address, 0660);
      check_listens(name + " mesh socket", *config.mesh_socket);
    }
    for (const proxy::PortConfig& port : config.ports) check_listens(name + " port " + port.name, port.listen);
    if (config.listen) check_link(name + " link port", *config.listen, name, "see the sidecar's log");
    for (const Json& agent : list_at(health, "agents")) {
      const bool connected = flag_at(agent, "connected");
      add(connected, name + " agent " + text_at(agent, "agent"), connected ? "connected" : "not connected",
          "start the agent, or correct its endpoint in " + target.file);
    }
    for (const proxy::PeerConfig& peer : config.peers) {
      const std::string about = name + " peer " + peer.host + "/" + peer.sidecar;
      check_link(about, peer.endpoint, peer.host + "/" + peer.sidecar,
                 "is that sidecar running, and does a firewall let the port through?");
      if (!peer.endpoint.is_loopback()) {
        warn(about, "the link to " + peer.endpoint.text + " is not encrypted", "for a lab only");
      }
    }
    if (at(health, "connections_max").is_number()) check_files_max(name, count_at(health, "connections_max"));
  }

  void check_files_max(const std::string& name, uint64_t connections) {
    constexpr uint64_t kEnough = 4096;
    const std::string text = "enough for " + std::to_string(connections) + " connections";
    if (connections >= kEnough) return add(true, name + " open files", text, "");
    warn(name + " open files", text + " only",
         "raise the hard limit of open files (LimitNOFILE= in its unit, or ulimit -Hn)");
  }

  void check_versions() {
    if (versions_.size() < 2) return;
    std::string all;
    for (const std::string& version : versions_) all += (all.empty() ? "" : ", ") + version;
    warn("versions", "differ: " + all, "they work together; finish the upgrade when it suits you");
  }

  // Calls never compare clocks; people who read logs of two hosts do.
  void check_clock() {
    timex clock{};
    const bool synchronised = adjtimex(&clock) != TIME_ERROR;
    if (synchronised) {
      add(true, "clock", "is kept in step", "");
    } else {
      warn("clock", "nobody keeps it in step",
           "run chrony or systemd-timesyncd, so that the logs of two hosts fit together");
    }
  }

 private:
  void check_listens(const std::string& about, const Endpoint& endpoint) {
    const std::string problem = connect_problem(endpoint);
    add(problem.empty(), about, endpoint.text + (problem.empty() ? " listens" : ": " + problem),
        "see the sidecar's log: a socket that cannot be opened is told at its start");
  }

  // Somebody accepts there, says hello as a sidecar does, and is the one that is expected.
  void check_link(const std::string& about, const Endpoint& endpoint, const std::string& expected,
                  const std::string& unreachable_hint) {
    if (const std::string problem = connect_problem(endpoint); !problem.empty()) {
      return add(false, about, endpoint.text + ": " + problem, unreachable_hint);
    }
    const auto hello = LinkSocket(context_, endpoint, kConnectWait_ms).await_hello();
    if (!hello) {
      return add(false, about, endpoint.text + " accepts, but " + printable(hello.error().text),
                 "another program, or a sidecar of another version, has this port");
    }
    const std::string who = printable(hello->host + "/" + hello->sidecar);
    if (who != expected) {
      return add(false, about, endpoint.text + " is " + who, "correct its endpoint in the configuration");
    }
    add(hello->version == wire::kVersion, about,
        endpoint.text + " says hello, wire version " + std::to_string(hello->version),
        "this meshctl speaks version " + std::to_string(wire::kVersion) + ": upgrade the older one");
  }

  zmq::context_t context_{1};
  std::set<std::string> versions_;
};

}  // namespace

std::vector<Finding> check(const Targets& targets, const std::vector<std::string>& files) {
  Checker checker;
  checker.check_files(targets, files);
  const Answers answers = ask_all(targets, "health");
  for (const auto& [target, health] : answers.given) checker.check_sidecar(*target, health);
  for (const auto& [target, error] : answers.missing) {
    checker.add(false, target->name(), "does not answer: " + printable(error.text), error.hint);
  }
  for (const Target* target : answers.elsewhere) {
    checker.skip(target->name(), "is on another computer", "run meshctl check there, too");
  }
  if (answers.given.empty() && answers.missing.empty() && !targets.sidecars.empty()) {
    checker.add(false, "sidecars", "none of " + targets.names() + " runs on this computer",
                "start one: mesh-sidecar --config FILE");
  }
  checker.check_versions();
  checker.check_clock();
  return checker.findings;
}

std::string check_text(const std::vector<Finding>& findings, const Paint& paint) {
  std::string text;
  for (const Finding& finding : findings) {
    const std::string mark = finding.verdict == Verdict::kWarning   ? "!"
                             : finding.verdict == Verdict::kSkipped ? "–"
                                                                    : paint.mark(finding.verdict == Verdict::kGood);
    text += mark + " " + finding.about + ": " + finding.text + "\n";
    if (!finding.hint.empty()) text += paint(Tone::kDim, "    → " + finding.hint) + "\n";
  }
  const auto bad = std::count_if(findings.begin(), findings.end(), [](auto& f) { return f.verdict == Verdict::kBad; });
  return text + (bad == 0 ? "all is well\n" : std::to_string(bad) + " to mend\n");
}

Json check_json(const std::vector<Finding>& findings) {
  constexpr const char* verdicts[] = {"good", "warning", "bad", "skipped"};
  Json list = Json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"verdict", verdicts[static_cast<size_t>(finding.verdict)]},
                    {"about", finding.about},
                    {"text", finding.text},
                    {"hint", finding.hint}});
  }
  return {{"ok", passes(findings)}, {"findings", list}};
}

bool passes(const std::vector<Finding>& findings) {
  return std::none_of(findings.begin(), findings.end(), [](auto& f) { return f.verdict == Verdict::kBad; });
}

}  // namespace mesh::ctl
