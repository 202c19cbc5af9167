// Memory for the models that methods compute with: leased when a call needs it, shared by all that come meanwhile, kept
// for the rest of a burst, and given back when nobody came for a while or somebody else needs it.
//
// A key to the gym that hangs with the porter: who comes first fetches it, whoever trains leaves the door open for the
// next, and it goes back when the last has gone and nobody has come for a while. It never is with two at once.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/instant.h"
#include "common/base/priority.h"
#include "common/contract/model_terms.h"
#include "sidecar/proxy/events.h"

namespace mesh::proxy {

class ModelLeases {
 public:
  enum class State : uint8_t {
    kNone,
    kAsked,
    kHeld,
    kRecalled,  // held, and given back as soon as nobody uses it
  };
  struct View {
    std::string_view name;
    State state;
    uint32_t users;
    size_t waiting;
  };
  // How far a model is from being usable, as far as it is known here.
  struct Readiness {
    State state = State::kNone;
    bool is_loaded = false;  // of what is held: a call has been answered since it was granted
    Instant granted_at{};
  };

  // The model's number from now on; one for each name. The terms outlive this.
  ModelIndex intern(const contract::ModelTerms& terms);

  // True: the call uses it from now on. Otherwise it waits, until it is among those that granted() or refused() give.
  bool use(ModelIndex index, uint64_t call, Priority priority, Actions& out);
  // A call that used it has ended; whether its agent has answered it, so that the model is loaded.
  void leave(ModelIndex index, bool was_answered, Instant now, Actions& out);
  // A call that waited has ended.
  void give_up(ModelIndex index, uint64_t call, Actions& out);

  // It is ours: those that waited, in the order in which they came, use it from now on.
  std::deque<uint64_t> granted(ModelIndex index, Instant now, Actions& out);
  // It has to wait for memory. An arbiter does not take from a process what is for the same process, so it is for us to
  // give up another model, once that was there for long enough to have been worth its loading.
  void queued(ModelIndex index, Instant now, Actions& out);
  // Those that waited.
  std::deque<uint64_t> refused(ModelIndex index);
  // Somebody else needs the memory.
  void recalled(ModelIndex index, Actions& out);
  // A call that used it, and that no agent has seen, waits again.
  void wait_again(ModelIndex index, uint64_t call, Priority priority);
  bool is_for_another(ModelIndex index, uint32_t pid) const {
    return models_[index].leased_for != 0 && models_[index].leased_for != pid;
  }
  // From now on the process that will use it, if it is only one, else 0. What was leased for another has ended with
  // that.
  void set_process(ModelIndex index, uint32_t pid, Actions& out);
  // It is not ours any more, whoever uses it.
  void lost(ModelIndex index, Actions& out);

  Instant next_deadline() const;
  void on_time(Instant now, Actions& out);

  Readiness readiness(ModelIndex index) const {
    const Model& model = models_[index];
    return {model.state, model.is_loaded, model.granted_at};
  }
  const contract::ModelTerms& terms(ModelIndex index) const { return models_[index].terms; }
  static ModelOrder order_of(const contract::ModelTerms& terms, Priority priority);
  std::vector<View> views() const;
  const std::string& name(ModelIndex index) const { return models_[index].terms.name; }
  // What does not agree with so many users and so many that wait, counted elsewhere, or who waits for what nobody asked
  // for; empty if all does.
  std::string audit(ModelIndex index, uint64_t users, uint64_t waiting) const;
  size_t size() const { return models_.size(); }

 private:
  struct Model {
    contract::ModelTerms terms;
    uint32_t pid = 0;         // who will use it
    uint32_t leased_for = 0;  // who would, when it was asked for
    State state = State::kNone;
    bool is_queued = false;  // it was asked for, and waits
    bool is_loaded = false;  // a call has been answered since it was granted
    Instant granted_at{};
    uint32_t users = 0;
    std::deque<uint64_t> waiting;
    Priority asked_with = Priority::kNormal;  // or will be, when it is recalled and somebody waits
    Instant idle_until = kNever;
  };
  static void add_waiter(Model& model, uint64_t call, Priority priority);
  uint64_t room_needed() const;
  void make_room(Instant now, Actions& out);
  void ask(ModelIndex index, Priority priority, Actions& out);
  void give_back(ModelIndex index, Actions& out);
  void replace(ModelIndex index, Actions& out);

  std::vector<Model> models_;
  uint64_t room_made_ = 0;  // bytes, for those that are queued
  std::vector<std::pair<const contract::ModelTerms*, ModelIndex>> known_;
};

std::string_view to_string(ModelLeases::State state);

}  // namespace mesh::proxy
