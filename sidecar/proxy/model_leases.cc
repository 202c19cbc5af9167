#include "sidecar/proxy/model_leases.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace mesh::proxy {
namespace {

// Ski rental: what is kept for as long as it costs to come back costs at most twice what the best choice would have.
constexpr int64_t kLoadsWorth = 3;
constexpr int64_t kResidency_ms_min = 1000;

Duration residency_of(const contract::ModelTerms& terms) {
  return milliseconds(std::max(kResidency_ms_min, kLoadsWorth * terms.expected_load_ms()));
}

}  // namespace

std::string_view to_string(ModelLeases::State state) {
  constexpr std::string_view names[] = {"none", "asked", "held", "recalled"};
  return names[static_cast<size_t>(state)];
}

ModelIndex ModelLeases::intern(const contract::ModelTerms& terms) {
  for (const auto& [known, index] : known_) {
    if (known == &terms) return index;
  }
  const auto named =
      std::find_if(models_.begin(), models_.end(), [&](const Model& model) { return model.terms.name == terms.name; });
  const auto index = static_cast<ModelIndex>(named - models_.begin());
  if (named == models_.end()) models_.push_back({.terms = terms, .waiting = {}});
  known_.emplace_back(&terms, index);
  return index;
}

bool ModelLeases::use(ModelIndex index, uint64_t call, Priority priority, Actions& out) {
  Model& model = models_[index];
  if (model.state == State::kHeld) {
    if (model.users++ == 0) out.push_back(NoteModelUse{index, true});
    model.idle_until = kNever;
    return true;
  }
  if (model.state == State::kAsked && priority < model.asked_with) give_back(index, out);
  add_waiter(model, call, priority);
  if (model.state == State::kNone) ask(index, model.asked_with, out);
  return false;
}

// It is asked for with what the most urgent of those that wait has.
void ModelLeases::add_waiter(Model& model, uint64_t call, Priority priority) {
  model.asked_with = model.waiting.empty() ? priority : std::min(model.asked_with, priority);
  model.waiting.push_back(call);
}

void ModelLeases::leave(ModelIndex index, bool was_answered, Instant now, Actions& out) {
  Model& model = models_[index];
  const bool is_ours = model.state == State::kHeld || model.state == State::kRecalled;
  if (is_ours && was_answered && !std::exchange(model.is_loaded, true)) out.push_back(NoteModelLoaded{index});
  if (--model.users > 0) return;
  if (model.state == State::kHeld) {
    model.idle_until = now + milliseconds(model.terms.hold_ms);
    out.push_back(NoteModelUse{index, false});
    make_room(now, out);
  } else if (model.state == State::kRecalled) {
    replace(index, out);
  }
}

void ModelLeases::wait_again(ModelIndex index, uint64_t call, Priority priority) {
  --models_[index].users;
  add_waiter(models_[index], call, priority);
}

void ModelLeases::give_up(ModelIndex index, uint64_t call, Actions& out) {
  Model& model = models_[index];
  std::erase(model.waiting, call);
  if (model.waiting.empty() && model.state == State::kAsked) give_back(index, out);
}

std::deque<uint64_t> ModelLeases::granted(ModelIndex index, Instant now, Actions& out) {
  Model& model = models_[index];
  if (model.state != State::kAsked) return {};
  model.state = State::kHeld;
  if (std::exchange(model.is_queued, false)) room_made_ -= std::min(room_made_, model.terms.bytes);
  model.is_loaded = false;
  model.granted_at = now;
  model.users += static_cast<uint32_t>(model.waiting.size());
  if (model.users > 0) out.push_back(NoteModelUse{index, true});
  return std::exchange(model.waiting, {});
}

std::deque<uint64_t> ModelLeases::refused(ModelIndex index) {
  if (models_[index].state != State::kAsked) return {};
  models_[index].state = State::kNone;
  models_[index].is_queued = false;
  return std::exchange(models_[index].waiting, {});
}

void ModelLeases::recalled(ModelIndex index, Actions& out) {
  Model& model = models_[index];
  if (model.state != State::kHeld) return;
  model.state = State::kRecalled;
  if (model.users == 0) replace(index, out);
}

// Goes back, and is asked for anew if somebody waits for it.
void ModelLeases::replace(ModelIndex index, Actions& out) {
  give_back(index, out);
  if (!models_[index].waiting.empty()) ask(index, models_[index].asked_with, out);
}

void ModelLeases::queued(ModelIndex index, Instant now, Actions& out) {
  if (models_[index].state != State::kAsked) return;
  models_[index].is_queued = true;
  make_room(now, out);
}

// What is given up, and what will be when who uses it is through, counts once: where it goes is the arbiter's affair.
uint64_t ModelLeases::room_needed() const {
  uint64_t needed = 0;
  for (const Model& model : models_) needed += model.is_queued ? model.terms.bytes : 0;
  return needed - std::min(needed, room_made_);
}

// First what nobody uses, and of that what was used longest ago.
void ModelLeases::make_room(Instant now, Actions& out) {
  const auto is_queued = [](const Model& model) { return model.is_queued; };
  if (std::none_of(models_.begin(), models_.end(), is_queued)) room_made_ = 0;
  while (room_needed() > 0) {
    std::optional<ModelIndex> next;
    for (ModelIndex i = 0; i < models_.size(); ++i) {
      const Model& model = models_[i];
      if (model.state != State::kHeld || now < model.granted_at + residency_of(model.terms)) continue;
      if (!next || model.idle_until < models_[*next].idle_until) next = i;
    }
    if (!next) return;
    room_made_ += models_[*next].terms.bytes;
    recalled(*next, out);
  }
}

void ModelLeases::set_process(ModelIndex index, uint32_t pid, Actions& out) {
  Model& model = models_[index];
  model.pid = pid;
  if (model.leased_for == 0 || model.leased_for == pid) return;
  if (model.state == State::kHeld) return recalled(index, out);
  const bool is_through = model.state == State::kRecalled && model.users == 0;
  if (is_through || model.state == State::kAsked) replace(index, out);
}

// Agents cannot be stopped: who uses it goes on, and whoever comes asks.
void ModelLeases::lost(ModelIndex index, Actions& out) {
  Model& model = models_[index];
  model.state = State::kNone;
  model.idle_until = kNever;
  if (!model.waiting.empty()) ask(index, model.asked_with, out);
}

Instant ModelLeases::next_deadline() const {
  Instant next = kNever;
  const bool is_wanted = room_needed() > 0;
  for (const Model& model : models_) {
    next = std::min(next, model.idle_until);
    if (is_wanted && model.state == State::kHeld) next = std::min(next, model.granted_at + residency_of(model.terms));
  }
  return next;
}

void ModelLeases::on_time(Instant now, Actions& out) {
  for (ModelIndex index = 0; index < models_.size(); ++index) {
    if (models_[index].idle_until <= now) give_back(index, out);
  }
  make_room(now, out);
}

void ModelLeases::ask(ModelIndex index, Priority priority, Actions& out) {
  Model& model = models_[index];
  model.state = State::kAsked;
  model.asked_with = priority;
  model.leased_for = model.pid;
  AskModel ask{index, order_of(model.terms, priority)};
  ask.order.pid = model.pid;
  out.push_back(std::move(ask));
}

ModelOrder ModelLeases::order_of(const contract::ModelTerms& terms, Priority priority) {
  return {.model = terms.name,
          .bytes = terms.bytes,
          .priority = priority,
          .hold_ms = terms.hold_ms,
          .load_ms = terms.load_ms};
}

void ModelLeases::give_back(ModelIndex index, Actions& out) {
  models_[index].state = State::kNone;
  models_[index].is_queued = false;
  models_[index].idle_until = kNever;
  out.push_back(ReturnModel{index});
}

std::vector<ModelLeases::View> ModelLeases::views() const {
  std::vector<View> views;
  for (const Model& model : models_)
    views.push_back({model.terms.name, model.state, model.users, model.waiting.size()});
  return views;
}

std::string ModelLeases::audit(ModelIndex index, uint64_t users, uint64_t waiting) const {
  const Model& model = models_[index];
  if ((model.state == State::kNone || model.state == State::kHeld) && !model.waiting.empty())
    return "calls wait for model " + model.terms.name + ", and it has not been asked for; ";
  if (model.users == users && model.waiting.size() == waiting) return "";
  return "model " + model.terms.name + " has " + std::to_string(users) + " users and " + std::to_string(waiting) +
         " that wait, the books say " + std::to_string(model.users) + " and " + std::to_string(model.waiting.size()) +
         "; ";
}

}  // namespace mesh::proxy
