#include "tools/meshctl/targets.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

namespace mesh::ctl {
namespace {

constexpr int kAnswerWait_s = 2;

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

}  // namespace

bool Targets::has_errors() const {
  return std::any_of(findings.begin(), findings.end(), [](const ConfigFinding& found) { return found.is_error; });
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

bool is_here(const Target& target) {
  struct stat info {};
  return lstat(target.config.admin_path.c_str(), &info) == 0;
}

Result<Json> ask(const std::string& admin_path, std::string_view line) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (admin_path.size() >= sizeof address.sun_path) return unreachable(admin_path, "the path is too long");
  std::memcpy(address.sun_path, admin_path.data(), admin_path.size());
  const Descriptor admin{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const timeval wait{.tv_sec = kAnswerWait_s, .tv_usec = 0};
  setsockopt(admin.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(admin.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  if (connect(admin.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return unreachable(admin_path, std::strerror(errno));
  }
  const std::string question = std::string(line) + " json\n";
  if (send(admin.fd, question.data(), question.size(), MSG_NOSIGNAL) < 0) {
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
  if (json.is_discarded()) return unreachable(admin_path, "answered: " + answer.substr(0, 200));
  return json;
}

std::vector<std::pair<const Target*, Json>> ask_all(const Targets& targets, std::string_view line) {
  std::vector<std::pair<const Target*, Json>> answers;
  for (const Target& target : targets.sidecars) {
    if (!is_here(target)) continue;
    auto answer = ask(target.config.admin_path, line);
    if (answer) {
      answers.emplace_back(&target, std::move(*answer));
    } else {
      std::fprintf(stderr, "meshctl: %s: %s — %s\n", target.name().c_str(), answer.error().text.c_str(),
                   answer.error().hint.c_str());
    }
  }
  return answers;
}

}  // namespace mesh::ctl
