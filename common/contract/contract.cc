#include "common/contract/contract.h"

#include <algorithm>
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
}

}  // namespace

void Table::declare_service(std::string service, Declaration terms) { services_[std::move(service)].terms = terms; }

void Table::declare_method(std::string service, std::string method, Declaration terms) {
  services_[std::move(service)].methods[std::move(method)] = terms;
}

void Table::declare_naming(std::string service, MethodNaming naming) {
  services_[std::move(service)].naming = std::move(naming);
}

const MethodNaming* Table::naming(std::string_view service) const {
  const auto found = services_.find(service);
  if (found == services_.end() || found->second.methods.empty() || found->second.naming.fields.empty()) return nullptr;
  return &found->second.naming;
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
                  .linger_count = limits::batch_envelopes_max};
  const auto found = services_.find(service);
  if (found == services_.end()) return effective;
  apply(found->second.terms, effective);
  const auto& methods = found->second.methods;
  if (const auto declared = methods.find(method); declared != methods.end()) apply(declared->second, effective);
  return effective;
}

}  // namespace mesh::contract
