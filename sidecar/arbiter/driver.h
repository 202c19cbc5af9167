// Turns packets into events and actions into packets, and does what the engine says about processes, chunks and the
// journal. It decides nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/transport.h"
#include "sidecar/arbiter/decisions.h"
#include "sidecar/arbiter/driver_admin.h"
#include "sidecar/arbiter/driver_memory.h"
#include "sidecar/arbiter/driver_sensors.h"
#include "sidecar/arbiter/engine.h"
#include "sidecar/arbiter/journal_form.h"
#include "sidecar/arbiter/report.h"
#include "sidecar/arbiter/session.h"
#include "sidecar/io/journal_file.h"
#include "sidecar/io/loop.h"
#include "sidecar/io/packet_socket.h"
#include "sidecar/io/process.h"

namespace mesh::arbiter {

// What main brings. Cards are in the order of their UUIDs, each opened twice: one worker makes chunks while the other
// measures.
struct DriverParts {
  ArbiterConfig config{};
  std::vector<std::string> uuids{};
  Devices devices{};
  Devices sensors{};
  std::unique_ptr<io::DescriptorKeeper> keeper{};
  io::JournalFile journal;
  std::vector<std::string> journal_records{};  // what was found in it
  std::string scope{};                         // what the journal of this run of the computer begins with
  std::string lease_path{};                    // of the sockets
  std::string admin_path{};
  std::function<LeaseId()> new_id{};
  LogLine log{};
};

class Driver final : public TurnObserver, private io::PacketAcceptObserver {
 public:
  Driver(io::Loop& loop, DriverParts parts);
  ~Driver() override;

  // Takes over from the arbiter before, then listens.
  Result<void> start();

  void on_timer() override;
  void on_turn_ending() override;

 private:
  static constexpr size_t kConnectionsMax = 2048;
  static constexpr size_t kConnectionsPerProcessMax = 8;
  static constexpr int64_t kGreetingMs = 2000;

  struct Client final : io::PacketObserver {
    Client(Driver& to, ConnectionId number, SessionTerms& terms, ProcessId process)
        : driver(to), id(number), session(terms, number, process) {}
    void on_packet(ByteView bytes, bool is_cut, bool had_descriptors) override {
      driver.on_packet(*this, {bytes, is_cut, had_descriptors});
    }
    void on_closed(std::string_view) override { driver.retire(*this); }

    Driver& driver;
    ConnectionId id;
    Session session;
    std::unique_ptr<io::PacketSocket> socket;
    bool is_retired = false;
  };
  struct Process {
    uint32_t user = 0;
    std::unique_ptr<io::ProcessWatch> watch;  // none: it had ended before
  };

  // driver.cc: connections and processes.
  void on_accepted(io::OwnedFd socket) override;
  void on_packet(Client& client, const Packet& packet);
  void follow(const Order& order, Client& client);
  void present(const LeasePresented& presented, const std::vector<ChunkNumber>& kept);
  void seal(const SegmentWritten& written);
  void retire(Client& client);
  void send(Client& client, const Frames& frames);
  void watch(ProcessId process, uint32_t user, io::OwnedFd pidfd);
  void end_processes();
  size_t connections_of(ProcessId process) const;
  ProcessId process_of(uint32_t pid, ProcessId asker);
  std::string answer(std::string_view question);
  ReportView view() const;

  // driver_actions.cc: what the engine says is done.
  template <class Event>
  void tell(const Event& event) {
    Actions out;
    engine_.on(event, loop_.now(), out);
    carry_out(out);
  }
  void carry_out(const Actions& actions);
  void write_journal(const Actions& actions);
  template <class Told>
  void tell_client(const Told& told);
  void carry_out_now(const Actions& actions);
  void carry(const SendGrant& grant);
  void carry(const SendRefusal& refusal);
  void carry(const SendError& error);
  void carry(const AskYield& asked);
  void carry(const SendBegin& begin);
  void carry(const SignalProcess& order);
  void carry(const WatchProcess& order);
  void carry(const CreateChunks& order);
  void carry(const ReturnChunks& order) { memory_.take_back(order); }
  void carry(const ReleaseChunks& order) { memory_.release(order); }
  void carry(const SampleGpu&) { sensors_.sample_soon(); }
  void carry(const AppendJournal&) {}  // was done before all others
  void carry(const RecordDecision& decision);
  void note(std::string_view what, LeaseId id, Reason reason, GpuIndex gpu, Units units);
  uint32_t user_of(LeaseId lease) const;

  // driver_operator.cc: what people ask and order.
  std::optional<std::string> obey(std::string_view line);

  // driver_start.cc: what is found at the start, and what is measured afterwards.
  Result<void> recover();
  void on_measuring();
  void on_reading(const SensorReading& reading);
  Units handed_to(ProcessId process, GpuIndex gpu) const;
  Units handed_to_meanwhile(ProcessId process, GpuIndex gpu) const;

  io::Loop& loop_;
  DriverParts parts_;
  Engine engine_;
  DriverMemory memory_;
  SessionTerms terms_;
  DriverSensors sensors_;
  Decisions decisions_;
  Counters counters_;
  JournalDigest digest_;
  std::map<ConnectionId, std::unique_ptr<Client>> clients_;
  std::map<ProcessId, Process> processes_;
  // When the measurement began that is under way.
  std::map<std::pair<ProcessId, GpuIndex>, Units> handed_before_;
  std::vector<Units> closed_before_;
  std::deque<std::pair<Instant, ConnectionId>> greetings_;  // who has to have said hello by when
  std::vector<ConnectionId> retired_;
  std::vector<ProcessId> ended_;
  Actions deferred_;  // grants that wait for memory to be settled, and what else is said of their leases
  ConnectionId next_connection_ = 1;
  std::unique_ptr<io::PacketListener> listener_;
  std::unique_ptr<DriverAdmin> admin_;
};

}  // namespace mesh::arbiter
