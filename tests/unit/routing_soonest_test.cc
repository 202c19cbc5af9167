// Where a call of a method that computes with a model goes.
#include <doctest/doctest.h>

#include <vector>

#include "common/routing/soonest.h"

namespace mesh::routing {
namespace {

using Prospects = std::vector<Prospect>;

TEST_CASE("where the model is a call goes, unless others wait there for longer than loading it elsewhere takes") {
  Prospects two = {{.load_s = 6, .serve_s = 1}, {.way_s = 0.001, .serve_s = 1}};
  CHECK(soonest(two, std::nullopt)->index == 1);
  two[1].wait_s = 20;
  CHECK(soonest(two, std::nullopt)->index == 0);
}

TEST_CASE("a slower agent on the host that has the model loses to a faster one only by what loading takes") {
  const Prospects two = {{.load_s = 3, .serve_s = 1}, {.serve_s = 5}};
  CHECK(soonest(two, std::nullopt)->index == 0);
  const Prospects other = {{.load_s = 3, .serve_s = 1}, {.serve_s = 3}};
  CHECK(soonest(other, std::nullopt)->index == 1);
}

TEST_CASE("what goes somewhere goes on there until another place is better by 15 %") {
  Prospects two = {{.wait_s = 1.1, .serve_s = 1}, {.wait_s = 1, .serve_s = 1}};
  const auto stays = soonest(two, 0);
  CHECK(stays->index == 0);
  CHECK(stays->stays);
  CHECK(soonest(two, 1)->index == 1);
  CHECK_FALSE(soonest(two, 1)->stays);
  two[0].wait_s = 1.4;
  CHECK(soonest(two, 0)->index == 1);
}

TEST_CASE("microseconds move nothing") {
  const Prospects two = {{.serve_s = 0.0004}, {.serve_s = 0.0001}};
  CHECK(soonest(two, 0)->index == 0);
}

TEST_CASE("without a past the own host gets it among those that are about as soon") {
  const Prospects two = {{.serve_s = 1}, {.own_host = true, .wait_s = 0.1, .serve_s = 1}};
  CHECK(soonest(two, std::nullopt)->index == 1);
  const Prospects far = {{.serve_s = 1}, {.own_host = true, .wait_s = 0.5, .serve_s = 1}};
  CHECK(soonest(far, std::nullopt)->index == 0);
}

TEST_CASE("what is coming somewhere is loaded once more only for more than that takes, whoever asks for it") {
  Prospects two = {{.is_coming = true, .load_s = 6.5, .serve_s = 1}, {.own_host = true, .load_s = 4, .serve_s = 1}};
  for (const std::optional<size_t> current :
       {std::optional<size_t>(), std::optional<size_t>(0), std::optional<size_t>(1)}) {
    CHECK(soonest(two, current)->index == 0);
    CHECK(soonest(two, current)->stays);
  }
  two[0].load_s = 8.5;
  CHECK(soonest(two, 0)->index == 1);
  two[0].load_s = 6.5;
  two[1].load_s = 0;  // it is there
  CHECK(soonest(two, 0)->index == 1);
  two[1] = {.is_coming = true, .load_s = 4, .serve_s = 1};  // it comes anyway
  CHECK(soonest(two, 0)->index == 1);
}

TEST_CASE("who is not available gets nothing, whatever was before") {
  Prospects two = {{.available = false}, {.load_s = 100}};
  CHECK(soonest(two, 0)->index == 1);
  two[1].available = false;
  CHECK_FALSE(soonest(two, 0));
  CHECK_FALSE(soonest({}, 7));
}

}  // namespace
}  // namespace mesh::routing
