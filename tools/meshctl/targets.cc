#include "tools/meshctl/targets.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

namespace mesh::ctl {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

Unexpected unreachable(const std::string& path, std::string_view what) {
  Error error = rule_broken(Code::kNotSent, "admin_unreachable", path + ": " + std::string(what));
  error.hint = "is the sidecar running, and may you open its admin socket (mode 0600)?";
  return Unexpected(std::move(error));
}

// Whether its link port has an address that is none of this computer's.
bool listens_elsewhere(const proxy::SidecarConfig& config) {
  if (!config.listen || config.listen->is_loopback()) return false;
  in6_addr wanted{};
  const std::string& address = config.listen->address;
  const bool is_ip4 = inet_pton(AF_INET, address.c_str(), &wanted) == 1;
  if (!is_ip4 && inet_pton(AF_INET6, address.c_str(), &wanted) != 1) return false;
  if (address == "0.0.0.0" || address == "::") return false;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return false;
  bool is_own = false;
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != (is_ip4 ? AF_INET : AF_INET6)) continue;
    const void* own = is_ip4
                          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr)
                          : static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr);
    is_own = is_own || std::memcmp(own, &wanted, is_ip4 ? sizeof(in_addr) : sizeof(in6_addr)) == 0;
  }
  freeifaddrs(all);
  return !is_own;
}

}  // namespace

bool Targets::has_errors() const {
  return std::any_of(findings.begin(), findings.end(), [](const ConfigFinding& found) { return found.is_error; });
}

std::string Targets::names() const {
  std::string all;
  for (const Target& target : sidecars) all += (all.empty() ? "" : ", ") + target.name();
  return all;
}

Targets load_targets(const std::vector<std::string>& files) {
  Targets targets;
  for (const std::string& file : files) {
    std::ifstream in(file);
    if (!in) {
      targets.findings.push_back({file, true, {"", "cannot be read", "name the host's configuration with --config"}});
      continue;
    }
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const proxy::ConfigResult all = proxy::parse_config(text, {}, true);
    for (const auto& error : all.errors) targets.findings.push_back({file, true, error});
    for (const auto& warning : all.warnings) targets.findings.push_back({file, false, warning});
    if (!all.errors.empty()) continue;
    for (const std::string& name : all.sidecars) {
      targets.sidecars.push_back({file, proxy::parse_config(text, name, false).config});
    }
  }
  return targets;
}

Result<Json> ask_socket(const std::string& admin_path, const std::string& line, int wait_s) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (admin_path.size() >= sizeof address.sun_path) return unreachable(admin_path, "the path is too long");
  std::memcpy(address.sun_path, admin_path.data(), admin_path.size());
  const Descriptor admin{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const timeval wait{.tv_sec = wait_s, .tv_usec = 0};
  setsockopt(admin.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(admin.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  if (connect(admin.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return unreachable(admin_path, std::strerror(errno));
  }
  if (send(admin.fd, line.data(), line.size(), MSG_NOSIGNAL) < 0) {
    return unreachable(admin_path, std::strerror(errno));
  }
  std::string answer;
  std::array<char, 65536> part{};
  while (true) {
    const ssize_t got = read(admin.fd, part.data(), part.size());
    if (got < 0) return unreachable(admin_path, std::strerror(errno));
    if (got == 0) break;
    answer.append(part.data(), static_cast<size_t>(got));
  }
  Json json = Json::parse(answer, nullptr, false);
  if (json.is_discarded()) {
    Error error =
        rule_broken(Code::kInvalid, "admin_refused", admin_path + " answered: " + printable(answer.substr(0, 200)));
    error.hint = "is it a sidecar of another version?";
    return Unexpected(std::move(error));
  }
  return json;
}

Result<Json> ask(const Target& target, std::string_view line, int wait_s) {
  const std::string& admin_path = target.config.admin_path;
  auto answer = ask_socket(admin_path, std::string(line) + " json\n", wait_s);
  if (!answer) return answer;
  const Json& json = *answer;
  const std::string name = text_at(json, "host") + "/" + text_at(json, "sidecar");
  if (name != target.name()) {
    Error error = rule_broken(Code::kInvalid, "admin_of_another", admin_path + " belongs to " + name);
    error.hint = "ask for " + target.name() + " on its own computer";
    return Unexpected(std::move(error));
  }
  return answer;
}

Answers ask_all(const Targets& targets, std::string_view line, int wait_s) {
  Answers answers;
  for (const Target& target : targets.sidecars) {
    auto answer = ask(target, line, wait_s);
    if (answer) {
      answers.given.emplace_back(&target, std::move(*answer));
    } else if (answer.error().rule == "admin_of_another" || listens_elsewhere(target.config)) {
      answers.elsewhere.push_back(&target);
    } else {
      answers.missing.emplace_back(&target, std::move(answer.error()));
    }
  }
  return answers;
}

}  // namespace mesh::ctl
