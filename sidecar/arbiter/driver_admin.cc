#include "sidecar/arbiter/driver_admin.h"

#include <algorithm>
#include <utility>

namespace mesh::arbiter {

Result<std::unique_ptr<DriverAdmin>> DriverAdmin::open(Transport& transport, const std::string& path, Answer answer) {
  std::unique_ptr<DriverAdmin> admin(new DriverAdmin(transport, std::move(answer)));
  const Endpoint endpoint{.is_ipc = true, .address = path, .port = 0, .text = "ipc://" + path};
  auto listener = transport.listen(endpoint, 0600, *admin);
  if (!listener) return Unexpected(std::move(listener.error()));
  admin->listener_ = std::move(*listener);
  return admin;
}

StreamObserver* DriverAdmin::on_accepted(std::unique_ptr<Stream> stream) {
  if (visitors_.size() >= kVisitorsMax) return nullptr;
  visitors_.push_back(std::make_unique<Visitor>(*this, std::move(stream), transport_.now() + milliseconds(kVisitMs)));
  return visitors_.back().get();
}

void DriverAdmin::Visitor::on_bytes(Slice bytes) {
  if (is_answered) return;
  line += bytes.text();
  const size_t end = line.find('\n');
  if (end == std::string::npos && line.size() <= kLineBytesMax) return;
  is_answered = true;
  stream->pause_reading();
  if (end > kLineBytesMax) return leave();
  const std::string answer = admin.answer_(std::string_view(line).substr(0, end));
  stream->out().put(as_bytes(answer));
  stream->flush();
  if (stream->unsent_bytes() == 0) leave();
}

void DriverAdmin::on_time(Instant now) {
  std::erase_if(visitors_, [now](const auto& visitor) { return visitor->deadline <= now; });
}

Instant DriverAdmin::next_deadline() const {
  Instant next = kNever;
  for (const auto& visitor : visitors_) next = std::min(next, visitor->deadline);
  return next;
}

}  // namespace mesh::arbiter
