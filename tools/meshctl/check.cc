#include "tools/meshctl/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace mesh::ctl {
namespace {

using Verdict = Finding::Verdict;
constexpr int kConnectWait_ms = 1000;

std::string octal(unsigned mode) {
  std::string text;
  for (int shift = 9; shift >= 0; shift -= 3) text += static_cast<char>('0' + (mode >> shift & 7));
  return text;
}

// Empty if somebody accepts there, else why not.
std::string connect_problem(const Endpoint& endpoint) {
  if (endpoint.is_ipc) {
    struct stat info {};
    return stat(endpoint.address.c_str(), &info) == 0 ? "" : std::strerror(errno);
  }
  const std::string address = endpoint.address == "0.0.0.0" ? "127.0.0.1" : endpoint.address;
  sockaddr_in ip4{};
  sockaddr_in6 ip6{};
  ip4.sin_family = AF_INET;
  ip4.sin_port = htons(endpoint.port);
  ip6.sin6_family = AF_INET6;
  ip6.sin6_port = htons(endpoint.port);
  const bool is_ip4 = inet_pton(AF_INET, address.c_str(), &ip4.sin_addr) == 1;
  if (!is_ip4 && inet_pton(AF_INET6, address.c_str(), &ip6.sin6_addr) != 1) return "is no address";
  const int fd = socket(is_ip4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const auto* where = is_ip4 ? reinterpret_cast<const sockaddr*>(&ip4) : reinterpret_cast<const sockaddr*>(&ip6);
  int problem = connect(fd, where, is_ip4 ? sizeof ip4 : sizeof ip6) == 0 ? 0 : errno;
  if (problem == EINPROGRESS) {
    pollfd writable{.fd = fd, .events = POLLOUT, .revents = 0};
    socklen_t size = sizeof problem;
    problem = ETIMEDOUT;
    if (poll(&writable, 1, kConnectWait_ms) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
  }
  close(fd);
  return problem == 0 ? "" : std::strerror(problem);
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

  void check_sidecar(const Target& target) {
    const std::string name = target.name();
    const proxy::SidecarConfig& config = target.config;
    const auto health = ask(config.admin_path, "health");
    if (!health) {
      return add(false, name, "does not answer: " + health.error().text, health.error().hint);
    }
    versions_.insert((*health)["version"].get<std::string>());
    add((*health)["status"] != "draining", name, "answers, version " + (*health)["version"].get<std::string>(),
        "it is shutting down: start it again");
    check_mode(name + " admin socket", config.admin_path, 0600);
    check_mode(name + " directory", config.admin_path.substr(0, config.admin_path.rfind('/')), 0750);
    if (config.mesh_socket && config.mesh_socket->is_ipc) {
      check_mode(name + " mesh socket", config.mesh_socket->address, 0660);
    }
    for (const proxy::PortConfig& port : config.ports) check_listens(name + " port " + port.name, port.listen);
    if (config.listen) check_listens(name + " link port", *config.listen);
    for (const Json& agent : (*health)["agents"]) {
      add(agent["connected"].get<bool>(), name + " agent " + agent["agent"].get<std::string>(),
          agent["connected"].get<bool>() ? "connected" : "not connected",
          "start the agent, or correct its endpoint in " + target.file);
    }
    for (const proxy::PeerConfig& peer : config.peers) {
      const std::string problem = connect_problem(peer.endpoint);
      add(problem.empty(), name + " peer " + peer.host + "/" + peer.sidecar,
          peer.endpoint.text + (problem.empty() ? " accepts" : ": " + problem),
          "is that sidecar running, and does a firewall let the port through?");
    }
    const auto files = (*health)["connections_max"].get<uint64_t>();
    constexpr uint64_t kEnough = 4096;
    if (files >= kEnough) {
      add(true, name + " open files", "enough for " + std::to_string(files) + " connections", "");
    } else {
      warn(name + " open files", "enough for " + std::to_string(files) + " connections only",
           "raise the hard limit of open files (LimitNOFILE= in its unit, or ulimit -Hn)");
    }
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

  std::set<std::string> versions_;
};

}  // namespace

std::vector<Finding> check(const Targets& targets, const std::vector<std::string>& files) {
  Checker checker;
  checker.check_files(targets, files);
  size_t here = 0;
  for (const Target& target : targets.sidecars) {
    if (is_here(target)) ++here, checker.check_sidecar(target);
  }
  if (here == 0 && !targets.sidecars.empty()) {
    std::string names;
    for (const Target& target : targets.sidecars) names += (names.empty() ? "" : ", ") + target.name();
    checker.add(false, "sidecars", "none of " + names + " runs on this computer",
                "start one: mesh-sidecar --config FILE");
  }
  checker.check_versions();
  checker.check_clock();
  return checker.findings;
}

std::string check_text(const std::vector<Finding>& findings, const Paint& paint) {
  std::string text;
  for (const Finding& finding : findings) {
    const bool is_warning = finding.verdict == Verdict::kWarning;
    text += (is_warning ? "!" : paint.mark(finding.verdict == Verdict::kGood)) + " " + finding.about + ": " +
            finding.text + "\n";
    if (!finding.hint.empty()) text += paint(Tone::kDim, "    → " + finding.hint) + "\n";
  }
  const auto bad = std::count_if(findings.begin(), findings.end(), [](auto& f) { return f.verdict == Verdict::kBad; });
  return text + (bad == 0 ? "all is well\n" : std::to_string(bad) + " to mend\n");
}

Json check_json(const std::vector<Finding>& findings) {
  constexpr const char* verdicts[] = {"good", "warning", "bad"};
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
