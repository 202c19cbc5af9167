#include "common/contract/contract.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "common/base/limits.h"

namespace mesh::contract {
namespace {

// What `terms` leaves out stays as it is.
void apply(const Declaration& terms, Terms& effective) {
  effective.budget_ms = terms.budget_ms.value_or(effective.budget_ms);
  effective.priority = terms.priority.value_or(effective.priority);
  effective.max_bytes = terms.max_bytes.value_or(effective.max_bytes);
  effective.linger_ms = terms.linger_ms.value_or(effective.linger_ms);
  effective.linger_count = terms.linger_count.value_or(effective.linger_count);
  effective.idempotent = terms.idempotent.value_or(effective.idempotent);
  effective.hedge_ms = terms.hedge_ms.value_or(effective.hedge_ms);
  effective.durable = terms.durable.value_or(effective.durable);
  effective.sensitive = terms.sensitive.value_or(effective.sensitive);
  if (terms.idempotency_field) effective.idempotency_field = &*terms.idempotency_field;
  if (terms.cache) effective.cache = terms.cache->ttl_ms > 0 ? &*terms.cache : nullptr;
  // A method that writes keeps nothing because its service does.
  if (terms.invalidates && !terms.cache) effective.cache = nullptr;
  if (terms.model) effective.model = terms.model->bytes > 0 ? &*terms.model : nullptr;
  if (terms.invalidates) effective.invalidates = terms.invalidates->empty() ? nullptr : &*terms.invalidates;
}

// What must not be kept, and what would be kept wrongly.
void judge_cache(const Terms& terms,
                 const std::function<void(std::string_view, std::string_view, std::string_view)>& add) {
  if (terms.cache == nullptr) return;
  const CacheTerms& cache = *terms.cache;
  if (terms.durable || terms.idempotency_field != nullptr) {
    add("cache", "answers without executing, and a call with an idempotency key is there to be executed",
        "cache what reads, give keys to what writes");
  }
  if (terms.invalidates != nullptr) {
    add("cache", "keeps the replies of a method that changes what others read", "leave cache or invalidates out");
  }
  if (terms.sensitive && (cache.tiers & ~tier_bit(Tier::kLocal)) != 0) {
    add("cache", "keeps replies of a sensitive method outside the caller's own sidecar", "set tiers to [\"local\"]");
  }
  if (cache.is_per_caller && (cache.uses(Tier::kHome) || cache.uses(Tier::kDisk))) {
    add("cache", "keeps per caller what the callee's host cannot tell apart by caller",
        "set tiers to [\"local\", \"shared\"]");
  }
}

void judge(std::string_view service, std::string_view method, const Terms& terms, std::vector<Conflict>& conflicts) {
  const auto add = [&](std::string_view key, std::string_view text, std::string_view hint) {
    conflicts.push_back({std::string(service), std::string(method), key, text, hint});
  };
  if (terms.durable && terms.sensitive) {
    add("durable", "would keep on disk, in clear, what a sensitive method replies",
        "leave one of the two out; a key without durable is kept in memory");
  }
  if (terms.durable && terms.idempotent) {
    add("durable", "says that each call counts, idempotent that it makes no difference how often",
        "idempotent where a call may simply be sent again, durable where it must not be");
  }
  if (terms.hedge_ms > 0 && !terms.idempotent) {
    add("hedge_ms", "would have calls executed twice that are not declared idempotent",
        "set idempotent if executing it twice does what once does");
  }
  if (terms.hedge_ms > 0 && terms.hedge_ms >= terms.budget_ms) {
    add("hedge_ms", "is not before the deadline", "some more than what most calls take, and less than budget_ms");
  }
  judge_cache(terms, add);
  if (terms.idempotency_field == nullptr) return;
  if (terms.hedge_ms > 0) {
    add("hedge_ms", "asks a second instance, and a call with an idempotency key stays with one",
        "leave one of the two out");
  }
  if (std::find(std::begin(kFreshFields), std::end(kFreshFields), *terms.idempotency_field) != std::end(kFreshFields)) {
    add("idempotency_field", "is written anew into every attempt: no two would be taken for the same",
        "a field that stays the same when the caller asks again, such as an order number");
  }
}

// Of a call that may be of any of the methods.
Terms strictest(const Terms& service, const std::map<std::string, Declaration, std::less<>>& methods) {
  static const std::vector<TagPattern> everything;
  Terms strict = service;
  strict.cache = nullptr;
  strict.hedge_ms = 0;
  if (strict.invalidates != nullptr) strict.invalidates = &everything;
  for (const auto& [name, declared] : methods) {
    Terms terms = service;
    apply(declared, terms);
    strict.idempotent = strict.idempotent && terms.idempotent;
    strict.durable = strict.durable || terms.durable;
    strict.sensitive = strict.sensitive || terms.sensitive;
    if (strict.idempotency_field == nullptr) strict.idempotency_field = terms.idempotency_field;
    if (terms.invalidates != nullptr) strict.invalidates = &everything;
    const bool needs_more =
        terms.model != nullptr && (strict.model == nullptr || terms.model->bytes > strict.model->bytes);
    if (needs_more) strict.model = terms.model;
  }
  return strict;
}

}  // namespace

void Table::declare_service(std::string service, Declaration terms) {
  services_[std::move(service)].terms = std::move(terms);
}

void Table::declare_method(std::string service, std::string method, Declaration terms) {
  services_[std::move(service)].methods[std::move(method)] = std::move(terms);
}

void Table::declare_naming(std::string service, MethodNaming naming) {
  services_[std::move(service)].naming = std::move(naming);
}

const MethodNaming* Table::naming(std::string_view service) const {
  const auto found = services_.find(service);
  if (found == services_.end() || found->second.methods.empty() || found->second.naming.fields.empty()) return nullptr;
  return &found->second.naming;
}

std::vector<Conflict> Table::conflicts() const {
  std::vector<Conflict> found;
  for (const auto& [name, service] : services_) {
    judge(name, {}, lookup(name, {}), found);
    const bool is_told = !found.empty() && found.back().service == name;
    for (const auto& [method, terms] : service.methods) {
      // What a method inherits is told once, of its service.
      const bool says_something = terms.idempotent || terms.hedge_ms || terms.durable || terms.sensitive ||
                                  terms.idempotency_field || terms.cache || terms.invalidates;
      if (says_something || !is_told) judge(name, method, lookup(name, method), found);
    }
  }
  return found;
}

bool Table::is_durable(std::string_view service) const {
  const auto found = services_.find(service);
  if (found == services_.end()) return false;
  return found->second.terms.durable.value_or(false) ||
         std::any_of(found->second.methods.begin(), found->second.methods.end(),
                     [](const auto& method) { return method.second.durable.value_or(false); });
}

bool Table::keeps(std::string_view service, Tier tier) const {
  const auto found = services_.find(service);
  if (found == services_.end()) return false;
  const auto does = [&](const Declaration& terms) {
    return terms.cache && terms.cache->ttl_ms > 0 && terms.cache->uses(tier);
  };
  return does(found->second.terms) || std::any_of(found->second.methods.begin(), found->second.methods.end(),
                                                  [&](const auto& method) { return does(method.second); });
}

bool Table::keeps(Tier tier) const {
  return std::any_of(services_.begin(), services_.end(),
                     [&](const auto& service) { return keeps(service.first, tier); });
}

bool Table::invalidates(std::string_view service) const {
  const auto found = services_.find(service);
  if (found == services_.end()) return false;
  const auto has_some = [](const Declaration& terms) { return terms.invalidates && !terms.invalidates->empty(); };
  return has_some(found->second.terms) || std::any_of(found->second.methods.begin(), found->second.methods.end(),
                                                      [&](const auto& method) { return has_some(method.second); });
}

bool Table::needs_model(std::string_view service) const {
  const auto found = services_.find(service);
  if (found == services_.end()) return false;
  const auto does = [](const Declaration& terms) { return terms.model && terms.model->bytes > 0; };
  return does(found->second.terms) || std::any_of(found->second.methods.begin(), found->second.methods.end(),
                                                  [&](const auto& method) { return does(method.second); });
}

std::vector<const ModelTerms*> Table::models(std::string_view service) const {
  std::vector<const ModelTerms*> models;
  const auto found = services_.find(service);
  if (found == services_.end()) return models;
  const auto add = [&](const Declaration& terms) {
    const ModelTerms* model = terms.model && terms.model->bytes > 0 ? &*terms.model : nullptr;
    const auto has_name = [&](const ModelTerms* other) { return other->name == model->name; };
    if (model != nullptr && std::none_of(models.begin(), models.end(), has_name)) models.push_back(model);
  };
  add(found->second.terms);
  for (const auto& [name, terms] : found->second.methods) add(terms);
  return models;
}

uint64_t Table::largest_bytes(std::string_view service) const {
  uint64_t largest = lookup(service, {}).max_bytes;
  if (const auto found = services_.find(service); found != services_.end()) {
    for (const auto& [method, terms] : found->second.methods) largest = std::max(largest, terms.max_bytes.value_or(0));
  }
  return largest;
}

Terms Table::lookup(std::string_view service, std::string_view method) const {
  Terms effective{.budget_ms = limits::dropin_budget_ms,
                  .priority = Priority::kNormal,
                  .max_bytes = limits::dropin_body_bytes,
                  .linger_ms = 0,
                  .linger_count = limits::batch_envelopes_max,
                  .idempotent = false,
                  .hedge_ms = 0,
                  .durable = false,
                  .sensitive = false,
                  .idempotency_field = nullptr,
                  .cache = nullptr,
                  .invalidates = nullptr};
  const auto found = services_.find(service);
  if (found == services_.end()) return effective;
  apply(found->second.terms, effective);
  const auto& methods = found->second.methods;
  if (method == kUnreadableMethod) [[unlikely]]
    return strictest(effective, methods);
  if (const auto declared = methods.find(method); declared != methods.end()) apply(declared->second, effective);
  return effective;
}

}  // namespace mesh::contract
