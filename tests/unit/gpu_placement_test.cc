#include <doctest/doctest.h>

#include "common/gpu/placement.h"
#include "common/gpu/residency.h"

namespace mesh::gpu {
namespace {

const Instant kNow{milliseconds(1'000'000)};

Site site(Units largest = 10'000) {
  Site made;
  made.largest = largest;
  return made;
}

TEST_CASE("memory, loading, heat and load of a card all count in seconds") {
  const Work work{100, 2.0};
  Site one = site();
  CHECK(predicted_s(work, one) == doctest::Approx(2));
  one.queue_s = 0.5;
  one.reclaim_s = 1;
  CHECK(predicted_s(work, one) == doctest::Approx(3.5));
  one.missing = units_of(6 * kGiB);
  one.load_gib_per_s = 3;
  CHECK(predicted_s(work, one) == doctest::Approx(5.5));
  one.utilisation = 0.5;
  CHECK(predicted_s(work, one) == doctest::Approx(7.5));
  one.slowdown = 2;
  one.network_s = 0.1;
  CHECK(predicted_s(work, one) == doctest::Approx(11.6));
  one.utilisation = 1;
  CHECK(predicted_s(work, one) < 1000);
}

TEST_CASE("work goes where its model is, unless that card is so busy that loading it elsewhere is faster") {
  const Work work{1000, 1.0};
  Site sites[] = {site(), site()};
  sites[1].missing = units_of(4 * kGiB);
  sites[1].load_gib_per_s = 2;
  CHECK(place(work, sites, std::nullopt, kNow) == 0);
  sites[0].queue_s = 5;
  CHECK(place(work, sites, std::nullopt, kNow) == 1);
}

TEST_CASE("a card on which it can never fit is no place, however fast, and without any there is none") {
  const Work work{1000, 1.0};
  Site sites[] = {site(999), site()};
  sites[1].queue_s = 60;
  CHECK(place(work, sites, std::nullopt, kNow) == 1);
  CHECK_FALSE(place(work, std::span(sites, 1), std::nullopt, kNow));
}

TEST_CASE("what is coming somewhere is waited for there, or where it is, and not loaded once more") {
  const Work work{1000, 1.0};
  Site sites[] = {site(), site(), site()};
  for (Site& each : sites) each.missing = units_of(2 * kGiB);
  sites[1].queue_s = 20;
  sites[2].queue_s = 30;
  CHECK(place(work, sites, std::nullopt, kNow) == 0);
  sites[1].is_coming = true;
  CHECK(place(work, sites, std::nullopt, kNow) == 1);
  sites[2].missing = 0;
  CHECK(place(work, sites, std::nullopt, kNow) == 1);
  sites[2].queue_s = 10;
  CHECK(place(work, sites, std::nullopt, kNow) == 2);
  sites[1].largest = 999;
  sites[2].missing = units_of(2 * kGiB);
  CHECK(place(work, sites, std::nullopt, kNow) == 0);
}

TEST_CASE("a large model is best on the large card where both are about as fast, a small one anywhere") {
  Site sites[] = {site(6000), site(12'000)};
  sites[1].network_s = 0.002;
  for (const Units units : {units_of(kGiB), units_of(3 * kGiB)}) {
    const Work work{units, 1.0, affinity_of(units)};
    CHECK(place(work, sites, std::nullopt, kNow) == (units > units_of(kGiB) ? 1 : 0));
  }
}

TEST_CASE("a move needs a gain of 15 percent") {
  const Work work{100, 1.0};
  Site sites[] = {site(), site()};
  sites[0].queue_s = 0.17;
  CHECK(place(work, sites, 0, kNow) == 0);
  sites[0].queue_s = 0.18;
  CHECK(place(work, sites, 0, kNow) == 1);
  sites[0].largest = 0;  // where it is it cannot stay
  sites[0].queue_s = 0;
  CHECK(place(work, sites, 0, kNow) == 1);
}

TEST_CASE("affinities decide between cards that are about as fast, and no others") {
  Work work{100, 1.0, Affinity::kSecondary};
  Site sites[] = {site(10'000), site(4000), site(6000)};
  sites[2].users = 3;
  CHECK(place(work, sites, std::nullopt, kNow) == 1);
  work.affinity = Affinity::kPrimary;
  CHECK(place(work, sites, std::nullopt, kNow) == 0);
  work.affinity = Affinity::kShared;
  CHECK(place(work, sites, std::nullopt, kNow) == 2);
  sites[2].queue_s = 0.1;
  CHECK(place(work, sites, std::nullopt, kNow) == 2);
  sites[2].queue_s = 0.3;
  CHECK(place(work, sites, std::nullopt, kNow) != 2);
}

TEST_CASE("another host that was silent for three seconds is no place") {
  const Work work{100, 1.0};
  Site sites[] = {site(), site()};
  sites[0].queue_s = 30;
  sites[1].is_own_host = false;
  sites[1].heard_at = kNow;
  CHECK(place(work, sites, std::nullopt, kNow + milliseconds(2999)) == 1);
  CHECK(place(work, sites, std::nullopt, kNow + milliseconds(3000)) == 0);
}

const ModelKey kModel{1, 2};

ResidencyEntry resident(uint32_t gpu, Residency at = Residency::kResident) { return {kModel, gpu, at, 1, 0.5}; }

TEST_CASE("deltas build upon the version before, and one that is missing waits for the digest") {
  Residencies known;
  const ResidencyEntry first[] = {resident(0)};
  const ResidencyEntry second[] = {resident(1)};
  const ResidencyEntry gone[] = {resident(0, Residency::kGone)};
  CHECK_FALSE(known.delta({7, 1, 1}, first, kNow));  // nothing was heard of it
  known.digest({7, 1, 1}, first, kNow);
  CHECK(known.delta({7, 1, 2}, second, kNow));
  CHECK(known.find(kModel, kNow).size() == 2);
  CHECK_FALSE(known.delta({7, 1, 4}, gone, kNow));
  CHECK(known.find(kModel, kNow).size() == 2);
  CHECK(known.delta({7, 1, 2}, gone, kNow));  // heard before: changes nothing
  CHECK(known.find(kModel, kNow).size() == 2);
  CHECK(known.delta({7, 1, 3}, gone, kNow));
  CHECK(known.find(kModel, kNow).size() == 1);
}

TEST_CASE("a digest takes the place of all that was known, an old one of nothing, a new arbiter's of all") {
  Residencies known;
  const ResidencyEntry both[] = {resident(0), resident(1)};
  known.digest({7, 1, 5}, both, kNow);
  known.digest({7, 1, 4}, {}, kNow);
  CHECK(known.find(kModel, kNow).size() == 2);
  CHECK_FALSE(known.delta({7, 2, 6}, {}, kNow));
  known.digest({7, 2, 0}, {}, kNow);
  CHECK(known.find(kModel, kNow).empty());
}

TEST_CASE("what was not said again for three seconds is not known, and hosts are bounded") {
  Residencies known;
  const ResidencyEntry one[] = {resident(0)};
  known.digest({7, 1, 1}, one, kNow);
  CHECK(known.find(kModel, kNow + milliseconds(2999)).size() == 1);
  CHECK(known.find(kModel, kNow + milliseconds(3000)).empty());
  CHECK(known.find({1, 3}, kNow).empty());
  for (uint64_t host = 0; host < 1000; ++host) known.digest({host, 1, 1}, one, kNow);
  CHECK(known.hosts() == 64);
}

}  // namespace
}  // namespace mesh::gpu
