// What a method allows, as one validated table.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/priority.h"
#include "common/contract/cache_terms.h"
#include "common/contract/method.h"
#include "common/contract/model_terms.h"

namespace mesh::contract {

// Effective terms of a call; always complete.
struct Terms {
  int64_t budget_ms = 0;
  Priority priority = Priority::kNormal;
  uint64_t max_bytes = 0;  // of the request's body and of the reply's
  // How long a request may wait for company on its way to another host, and for how much of it.
  int64_t linger_ms = 0;
  uint32_t linger_count = 1;
  // Executing it twice does what executing it once does: it may be sent again where nobody knows whether it was
  // executed.
  bool idempotent = false;
  // After so long without an answer another instance is asked, too, and the first answer counts; 0: never.
  int64_t hedge_ms = 0;
  // What became of a call with an idempotency key is kept on disk.
  bool durable = false;
  // Never compressed, beside others or alone, for what compresses well with it would tell of it.
  bool sensitive = false;
  // Top-level field of a JSON body that holds the idempotency key; null: bodies hold none. Lives as long as the table.
  const std::string* idempotency_field = nullptr;
  // Both null: nothing is kept of it, and it makes nothing that is kept wrong. They live as long as the table.
  const CacheTerms* cache = nullptr;
  const std::vector<TagPattern>* invalidates = nullptr;  // empty: everything of the service
  // What it computes with; null: nothing that takes memory of a GPU. Lives as long as the table.
  const ModelTerms* model = nullptr;
};

// What one entry says; what it leaves out comes from the service's entry, then from the defaults.
struct Declaration {
  std::optional<int64_t> budget_ms{};
  std::optional<Priority> priority{};
  std::optional<uint64_t> max_bytes{};
  std::optional<int64_t> linger_ms{};
  std::optional<uint32_t> linger_count{};
  std::optional<bool> idempotent{};
  std::optional<int64_t> hedge_ms{};
  std::optional<bool> durable{};
  std::optional<bool> sensitive{};
  std::optional<std::string> idempotency_field{};
  std::optional<CacheTerms> cache{};  // the whole block; a ttl of 0 takes back what the service says
  std::optional<std::vector<TagPattern>> invalidates{};
  std::optional<ModelTerms> model{};  // of 0 bytes: none, whatever the service says
};

// Terms that must not be together.
struct Conflict {
  std::string service;
  std::string method;  // empty: of the service itself
  std::string_view key;
  std::string_view text;
  std::string_view hint;
};

class Table {
 public:
  void declare_service(std::string service, Declaration terms);
  void declare_method(std::string service, std::string method, Declaration terms);

  void declare_naming(std::string service, MethodNaming naming);

  // How the service's requests name their method; null where that makes no difference, as no method is declared.
  const MethodNaming* naming(std::string_view service) const;
  // All combinations that are unsafe, of what each entry means with what it inherits.
  std::vector<Conflict> conflicts() const;
  // Whether a method of the service keeps results on disk.
  bool is_durable(std::string_view service) const;
  // Whether replies of a method of the service are kept in the tier.
  bool keeps(std::string_view service, Tier tier) const;
  bool keeps(Tier tier) const;  // likewise of any service
  // Whether a method of the service makes replies wrong that are kept.
  bool invalidates(std::string_view service) const;
  // Whether a method of the service computes with a model.
  bool needs_model(std::string_view service) const;
  // What its methods compute with, each model once. They live as long as the table.
  std::vector<const ModelTerms*> models(std::string_view service) const;
  // The largest body that any method of the service takes.
  uint64_t largest_bytes(std::string_view service) const;
  // Method before service before defaults. Unknown names get the defaults. Of kUnreadableMethod: the service's, and in
  // what is kept, sent again or executed twice the strictest of all its methods'.
  Terms lookup(std::string_view service, std::string_view method) const;

 private:
  struct Service {
    Declaration terms;
    MethodNaming naming;
    std::map<std::string, Declaration, std::less<>> methods;
  };
  std::map<std::string, Service, std::less<>> services_;
};

}  // namespace mesh::contract
