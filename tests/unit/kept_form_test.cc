#include "common/cache/kept_form.h"

#include <doctest/doctest.h>

#include "common/base/limits.h"
#include "tests/unit/self_telling.h"

namespace mesh::cache {
namespace {

Kept full() {
  Kept kept = self_telling(7, 3, 1000);
  kept.part_sizes = {400, 0, 600};
  kept.echoes = {{1, 10, 5}, {0, 15, 0}, {2, 900, 100}};
  kept.stored_at = Instant(microseconds(1));
  kept.fresh_until = Instant(microseconds(2));
  kept.revalidate_until = Instant(microseconds(9));
  kept.error_until = Instant(microseconds(4));
  kept.cost_us = 12'345;
  return kept;
}

TEST_CASE("a form gives back all that was kept, and who gave it") {
  const Kept kept = full();
  const Slice form = encode_kept_form(kept, 99);
  CHECK(form.size() == kept_form_bytes(kept));
  const auto found = decode_kept_form(form);
  REQUIRE(found);
  CHECK(is_whole(*found, 7));
  CHECK(found->origin_name == 99);
  CHECK(found->kept.key.hash == kept.key.hash);
  CHECK(found->kept.service == 1);
  CHECK(found->kept.method == 2);
  CHECK(found->kept.part_sizes == kept.part_sizes);
  REQUIRE(found->kept.echoes.size() == 3);
  CHECK(found->kept.echoes[2].field == 2);
  CHECK(found->kept.echoes[2].offset == 900);
  CHECK(found->kept.echoes[2].size == 100);
  CHECK(found->kept.stored_at == kept.stored_at);
  CHECK(found->kept.fresh_until == kept.fresh_until);
  CHECK(found->kept.revalidate_until == kept.revalidate_until);
  CHECK(found->kept.error_until == kept.error_until);
  CHECK(found->kept.cost_us == kept.cost_us);
  const auto head = read_kept_form_head(form.view().first(kKeptFormHeadBytes));
  REQUIRE(head);
  CHECK(head->bytes == form.size());
  CHECK(head->useful_until == kept.revalidate_until);
}

TEST_CASE("an empty reply and a time without end have a form, too") {
  Kept kept;
  kept.fresh_until = kNever;
  const auto found = decode_kept_form(encode_kept_form(kept, 0));
  REQUIRE(found);
  CHECK(found->kept.fresh_until == kNever);
  CHECK(found->kept.body.empty());
}

TEST_CASE("no byte can be changed or be missing without being found out, and bytes behind it do not matter") {
  const Slice form = encode_kept_form(full(), 99);
  for (size_t at = 0; at < form.size(); ++at) {
    std::string changed(form.text());
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    REQUIRE_FALSE(decode_kept_form(Slice::copy_of(changed)));
    REQUIRE_FALSE(is_intact_kept_form(as_bytes(changed)));
    REQUIRE_FALSE(decode_kept_form(form.part(0, at)));
  }
  CHECK(decode_kept_form(Slice::copy_of(std::string(form.text()) + "more")));
}

TEST_CASE("what is beyond the limits or contradicts itself has no form") {
  Kept kept = full();
  kept.tags.resize(limits::cache_tags_max + 1);
  CHECK(kept_form_bytes(kept) == 0);
  CHECK(encode_kept_form(kept, 0).empty());
  kept = full();
  kept.part_sizes.resize(limits::frames_per_reply_max + 1);
  CHECK(encode_kept_form(kept, 0).empty());
  kept = full();
  kept.part_sizes[0] = 401;
  CHECK(encode_kept_form(kept, 0).empty());
  kept = full();
  kept.echoes[2].size = 101;  // beyond the body
  CHECK(encode_kept_form(kept, 0).empty());
  kept = full();
  kept.echoes[1].offset = 14;  // within the one before
  CHECK(encode_kept_form(kept, 0).empty());
}

}  // namespace
}  // namespace mesh::cache
