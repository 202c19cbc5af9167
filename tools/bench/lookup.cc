// mesh-bench-lookup: what replies cost that are kept elsewhere, as mesh-bench-client prints it for the mesh: in a table
// of this process, or in a Redis server (RESP over tcp, this process's own socket, nothing in between).
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/bench/latencies.h"

namespace mesh::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kUsage =
    "usage: mesh-bench-lookup map|PORT KEYS BYTES OUTSTANDING WARMUP_SECONDS SECONDS\n"
    "Puts KEYS values of BYTES into a table of its own, or into the Redis server at 127.0.0.1:PORT, and looks them up "
    "in\n"
    "turn, OUTSTANDING at a time. Prints start, end and a JSON line; after start and end it waits for a line on "
    "stdin.\n";

std::string key_of(uint64_t number) {
  std::string digits = std::to_string(number);
  return "key:" + std::string(16 - digits.size(), '0') + digits;
}

class Redis {
 public:
  explicit Redis(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    const timeval patience{5, 0};
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      throw std::system_error(errno, std::generic_category(), "redis");
    }
  }
  Redis(const Redis&) = delete;
  Redis& operator=(const Redis&) = delete;
  ~Redis() { close(fd_); }

  void set(const std::string& key, const std::string& value) {
    send("*3\r\n$3\r\nSET\r\n" + bulk(key) + bulk(value));
    if (read_line() != "+OK") throw std::runtime_error("redis did not take a value");
  }
  void send_get(const std::string& key) { send("*2\r\n$3\r\nGET\r\n" + bulk(key)); }
  // The next value; valid until the next call.
  std::string_view receive() {
    const std::string_view line = read_line();
    if (line.empty() || line[0] != '$' || line[1] == '-') throw std::runtime_error("redis has no such value");
    const size_t bytes = std::stoul(std::string(line.substr(1)));
    while (buffer_.size() - at_ < bytes + 2) read_more();
    const std::string_view value(buffer_.data() + at_, bytes);
    at_ += bytes + 2;
    return value;
  }

 private:
  static std::string bulk(const std::string& text) {
    return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) throw std::system_error(errno, std::generic_category(), "redis");
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  std::string_view read_line() {
    if (at_ == buffer_.size()) buffer_.clear(), at_ = 0;
    size_t end = 0;
    while ((end = buffer_.find("\r\n", at_)) == std::string::npos) read_more();
    const std::string_view line(buffer_.data() + at_, end - at_);
    at_ = end + 2;
    return line;
  }
  void read_more() {
    char bytes[65536];
    const ssize_t got = recv(fd_, bytes, sizeof bytes, 0);
    if (got <= 0) throw std::runtime_error("redis is gone");
    buffer_.append(bytes, static_cast<size_t>(got));
  }

  int fd_;
  std::string buffer_;
  size_t at_ = 0;
};

struct Arguments {
  std::string where;
  uint64_t keys = 0;
  std::string value;
  size_t outstanding = 1;
  double warmup_s = 0;
  double seconds = 1;
};

// Latencies of lookups, `ask` one and `take` the oldest that was asked.
template <typename Ask, typename Take>
std::pair<std::vector<uint32_t>, double> look_up(const Arguments& arguments, double seconds, Ask ask, Take take) {
  std::vector<uint32_t> latencies_ns;
  latencies_ns.reserve(size_t{1} << 22);
  std::deque<std::pair<Clock::time_point, uint64_t>> asked;
  uint64_t next = 0;
  const auto start = Clock::now();
  const auto end = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  auto now = start;
  const auto ask_next = [&] {
    asked.emplace_back(now, next++ % arguments.keys);
    ask(asked.back().second);
  };
  for (size_t i = 0; i < arguments.outstanding; ++i) ask_next();
  while (!asked.empty()) {
    if (!take(asked.front().second)) throw std::runtime_error("a value of another key");
    now = Clock::now();
    latencies_ns.push_back(static_cast<uint32_t>((now - asked.front().first).count()));
    asked.pop_front();
    if (now < end) ask_next();
  }
  return {std::move(latencies_ns), std::chrono::duration<double>(now - start).count()};
}

template <typename Ask, typename Take>
void run(const Arguments& arguments, Ask ask, Take take) {
  look_up(arguments, arguments.warmup_s, ask, take);
  announce("start");
  auto [latencies_ns, seconds] = look_up(arguments, arguments.seconds, ask, take);
  announce("end");
  print_latencies(std::move(latencies_ns), seconds, "none");
}

std::string value_of(const Arguments& arguments, uint64_t key) { return key_of(key) + arguments.value; }

void run_redis(const Arguments& arguments) {
  Redis redis(static_cast<uint16_t>(std::stoul(arguments.where)));
  std::vector<std::string> keys;
  for (uint64_t key = 0; key < arguments.keys; ++key) {
    keys.push_back(key_of(key));
    redis.set(keys.back(), value_of(arguments, key));
  }
  run(
      arguments, [&](uint64_t key) { redis.send_get(keys[key]); },
      [&](uint64_t key) { return redis.receive().starts_with(keys[key]); });
}

// With a copy of the value, as whoever sends it would need.
void run_map(const Arguments& arguments) {
  std::unordered_map<std::string, std::string> table;
  std::vector<std::string> keys;
  for (uint64_t key = 0; key < arguments.keys; ++key) {
    keys.push_back(key_of(key));
    table[keys.back()] = value_of(arguments, key);
  }
  std::string reply;
  run(
      arguments, [&](uint64_t key) { reply = table.at(keys[key]); },
      [&](uint64_t key) { return reply.starts_with(keys[key]); });
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  using namespace mesh::bench;
  Arguments arguments;
  try {
    if (argc != 7) throw std::invalid_argument("six arguments");
    arguments = {argv[1], std::stoull(argv[2]), {}, std::stoul(argv[4]), std::stod(argv[5]), std::stod(argv[6])};
    const size_t bytes = std::stoul(argv[3]);
    if (arguments.keys == 0 || arguments.outstanding == 0 || bytes < 20)
      throw std::invalid_argument("20 bytes at least");
    if (arguments.where == "map" && arguments.outstanding != 1)
      throw std::invalid_argument("a table is asked once at a time");
    arguments.value.assign(bytes - 20, 'x');
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-lookup: " << error.what() << '\n' << kUsage;
    return 64;
  }
  try {
    arguments.where == "map" ? run_map(arguments) : run_redis(arguments);
  } catch (const std::exception& error) {
    std::cerr << "mesh-bench-lookup: " << error.what() << '\n';
    return 1;
  }
}
