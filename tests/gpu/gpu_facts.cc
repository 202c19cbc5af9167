// Settles what the documents of a driver do not say: who is charged for shared memory, what survives whose death, how
// long things take. Each experiment is a process of its own with a time limit, so that one that hangs or crashes does
// not keep the others from running. Exit code 77 if there is no GPU, 1 if an experiment did not end well.

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "tests/gpu/lab.h"

extern char** environ;

namespace mesh::facts {
namespace {

constexpr int kSkipped = 77;

struct Options {
  Backend backend = {.name = "cuda", .book_path = ""};
  std::string experiment;  // runs this one here
  std::vector<std::string> only;
  std::string json_path;
  std::string stand_in;  // the folder of a driver that is none
  double seconds_max = 120;
  bool is_puppet = false;
};

struct Outcome {
  std::string name;
  std::string status;
  double ms = 0;
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<std::string> errors;
};

std::vector<Experiment> all_experiments() {
  std::vector<Experiment> all;
  for (const auto& some : {memory_experiments(), death_experiments(), time_experiments()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--puppet") {
      options.is_puppet = true;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (name == "--backend") options.backend.name = value;
    if (name == "--book") options.backend.book_path = value;
    if (name == "--experiment") options.experiment = value;
    if (name == "--only") options.only.push_back(value);
    if (name == "--stand-in") options.stand_in = value;
    if (name == "--json") options.json_path = value;
    if (name == "--seconds") options.seconds_max = std::strtod(value.c_str(), nullptr);
  }
  return options;
}

void take_line(const std::string& line, Outcome& outcome) {
  std::istringstream parts(line);
  std::string kind;
  std::string key;
  std::string value;
  std::getline(parts, kind, '\t');
  std::getline(parts, key, '\t');
  std::getline(parts, value);
  if (kind == "fact") outcome.facts.emplace_back(key, value);
  if (kind == "error") outcome.errors.push_back(key);
  if (kind == "fact") std::printf("  %-42s %s\n", key.c_str(), value.c_str());
  if (kind == "error") std::printf("  ! %s\n", key.c_str());
  std::fflush(stdout);
}

// Until the experiment says no more, or its time is up.
bool listen_to(int pipe, Clock::time_point end, Outcome& outcome) {
  std::string pending;
  while (true) {
    const double left_ms = ms_between(Clock::now(), end);
    pollfd waiting{.fd = pipe, .events = POLLIN, .revents = 0};
    if (left_ms <= 0 || poll(&waiting, 1, static_cast<int>(left_ms) + 1) <= 0) return false;
    char bytes[4096];
    const ssize_t size = read(pipe, bytes, sizeof(bytes));
    if (size <= 0) return true;
    pending.append(bytes, static_cast<size_t>(size));
    for (size_t at; (at = pending.find('\n')) != std::string::npos; pending.erase(0, at + 1))
      take_line(pending.substr(0, at), outcome);
  }
}

pid_t spawn_experiment(const Options& options, const std::string& name, int output) {
  std::string arguments[] = {"gpu_facts",    "--backend", options.backend.name, "--book", options.backend.book_path,
                             "--experiment", name};
  char* argv[std::size(arguments) + 1] = {};
  for (size_t i = 0; i < std::size(arguments); ++i) argv[i] = arguments[i].data();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  pid_t pid = -1;
  if (posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, argv, environ) != 0) pid = -1;
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return pid;
}

Outcome run_apart(const Options& options, const Experiment& experiment, double seconds_left) {
  Outcome outcome{.name = experiment.name, .status = "", .ms = 0, .facts = {}, .errors = {}};
  std::printf("%s\n", experiment.name.c_str());
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) return outcome;
  const auto start = Clock::now();
  const pid_t pid = spawn_experiment(options, experiment.name, ends[1]);
  close(ends[1]);
  const double seconds = std::min<double>(experiment.seconds_max, seconds_left);
  const auto end = start + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  const bool is_over = pid > 0 && listen_to(ends[0], end, outcome);
  close(ends[0]);
  int status = 0;
  if (pid > 0) {
    if (!is_over) kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    kill(-pid, SIGKILL);  // puppets that are left
  }
  outcome.ms = ms_since(start);
  outcome.status = !is_over              ? "timed out"
                   : WIFSIGNALED(status) ? "crashed: " + std::string(strsignal(WTERMSIG(status)))
                                         : (WEXITSTATUS(status) == 0 ? "ok" : "failed");
  std::printf("  -> %s, %.0f ms, %zu errors\n", outcome.status.c_str(), outcome.ms, outcome.errors.size());
  return outcome;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

std::string json_value(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  const bool is_number = !text.empty() && *end == '\0' && text.find_first_not_of("0123456789.e+-") == text.npos;
  return is_number ? text : quoted(text);
}

void write_json(const std::string& path, const std::string& backend, const std::vector<Outcome>& outcomes) {
  std::ofstream out(path);
  out << "{\"backend\": " << quoted(backend) << ", \"experiments\": {";
  const char* comma = "\n";
  for (const Outcome& outcome : outcomes) {
    out << comma << quoted(outcome.name) << ": {\"status\": " << quoted(outcome.status) << ", \"ms\": " << outcome.ms
        << ",\n  \"facts\": {";
    comma = "";
    for (const auto& [key, value] : outcome.facts) {
      out << comma << quoted(key) << ": " << json_value(value);
      comma = ", ";
    }
    out << "},\n  \"errors\": [";
    comma = "";
    for (const std::string& error : outcome.errors) {
      out << comma << quoted(error);
      comma = ", ";
    }
    out << "]}";
    comma = ",\n";
  }
  out << "\n}}\n";
}

// Asked in a process of its own: a driver that crashes is told, too.
bool has_gpu(const Options& options) {
  Puppet puppet(options.backend);
  const Reply reply = puppet.ask("open");
  std::printf("%s: %s\n", options.backend.name.c_str(), reply.text.c_str());
  return reply.is_ok;
}

// What is no question where memory is files.
bool is_as_known(const Outcome& outcome) {
  bool is_known = outcome.errors.empty();
  for (const auto& [key, value] : outcome.facts) {
    const bool is_free = key.find("wrong_words") == key.npos && key.find("left_") == key.npos;
    if (is_free || key.ends_with("_n") || key.ends_with("_all") || key == "left_while_fd_open_mib" || value == "0")
      continue;
    std::printf("  ! %s: %s should be 0\n", outcome.name.c_str(), key.c_str());
    is_known = false;
  }
  return is_known;
}

bool is_wanted(const Options& options, const Experiment& experiment) {
  return options.only.empty() ||
         std::find(options.only.begin(), options.only.end(), experiment.name) != options.only.end();
}

int run_all(const Options& options) {
  if (!has_gpu(options)) {
    std::printf("no GPU here: nothing to find out\n");
    return kSkipped;
  }
  // Somebody has to have the driver open all the time, or each experiment waits for the card to wake.
  std::optional<Puppet> waker;
  const auto start = Clock::now();
  std::vector<Outcome> outcomes;
  bool is_good = true;
  for (const Experiment& experiment : all_experiments()) {
    const double seconds_left = options.seconds_max - ms_since(start) / 1000;
    if (!is_wanted(options, experiment) || seconds_left <= 0) continue;
    if (experiment.is_alone) {
      waker.reset();
    } else if (!waker) {
      waker.emplace(options.backend);
      (void)waker->ask("open");
    }
    outcomes.push_back(run_apart(options, experiment, seconds_left));
    const bool is_a_card = options.backend.is_cuda() && options.stand_in.empty();
    is_good = is_good && outcomes.back().status == "ok" && (is_a_card || is_as_known(outcomes.back()));
    if (!options.json_path.empty()) write_json(options.json_path, options.backend.name, outcomes);
  }
  std::printf("%zu experiments in %.1f s, %s\n", outcomes.size(), ms_since(start) / 1000,
              is_good ? "all ended well" : "not all ended well");
  return is_good ? 0 : 1;
}

int run_here(const Options& options) {
  for (const Experiment& experiment : all_experiments()) {
    if (experiment.name != options.experiment) continue;
    Lab lab(options.backend);
    experiment.run(lab);
    return 0;
  }
  return 64;
}

int run(int argc, char** argv) {
  Options options = read_options(argc, argv);
  if (options.is_puppet) return run_puppet(options.backend);
  if (!options.experiment.empty()) return run_here(options);
  // NVML counts cards by their place on the bus.
  setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
  if (options.backend.is_cuda() && options.stand_in.empty()) return run_all(options);
  const std::string folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  const std::string book = folder + "/mesh-gpu-facts-" + std::to_string(getpid());
  if (options.stand_in.empty()) options.backend.book_path = book;
  if (!options.stand_in.empty()) setenv("LD_LIBRARY_PATH", options.stand_in.c_str(), 1);
  setenv("MESH_STAND_IN_BOOK", book.c_str(), 1);
  const int status = run_all(options);
  unlink(book.c_str());
  return status;
}

}  // namespace
}  // namespace mesh::facts

int main(int argc, char** argv) { return mesh::facts::run(argc, argv); }
