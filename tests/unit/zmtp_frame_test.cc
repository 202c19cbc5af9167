#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/base/prng.h"
#include "common/zmtp/frame.h"

namespace mesh::zmtp {
namespace {

constexpr FrameDecoder::Limits kWide{.keep_bytes = 1 << 20, .data_bytes = 1 << 20, .command_bytes = 512};

std::string bytes_of(const Outbox& out) {
  std::string all;
  for (const Slice& chunk : out.chunks()) all += chunk.text();
  return all;
}

TEST_CASE("frames come out as they went in, whatever the split of the bytes into reads") {
  Prng prng(1);
  for (int round = 0; round < 300; ++round) {
    Outbox out;
    std::vector<std::string> bodies;
    for (int i = 0; i < 12; ++i) {
      const size_t sizes[] = {0, 1, 254, 255, 256, 257, 8192, 20'000, 70'000};
      std::string body(sizes[prng.below(9)], '\0');
      for (char& c : body) c = static_cast<char>(prng.next());
      put_frame(out, i % 3 == 0 ? kFlagMore : 0, Slice::copy_of(body));
      bodies.push_back(std::move(body));
    }
    std::string stream = bytes_of(out);
    FrameDecoder decoder;
    std::vector<Frame> frames;
    for (size_t at = 0; at < stream.size();) {
      const size_t most = prng.below(3) == 0 ? 3 : 60'000;
      size_t take = std::min(stream.size() - at, 1 + prng.below(most));
      const auto target = decoder.read_target();
      if (!target.empty()) {
        take = std::min(take, target.size());
        std::copy_n(stream.data() + at, take, target.data());
        decoder.commit(take);
      } else {
        decoder.feed(Slice::copy_of(std::string_view(stream).substr(at, take)));
      }
      at += take;
      while (true) {
        auto frame = decoder.next(kWide);
        REQUIRE(frame.has_value());
        if (!frame->has_value()) break;
        frames.push_back(std::move(**frame));
      }
    }
    REQUIRE(frames.size() == bodies.size());
    for (size_t i = 0; i < frames.size(); ++i) {
      REQUIRE(frames[i].body.text() == bodies[i]);
      REQUIRE(frames[i].more() == (i % 3 == 0));
    }
  }
}

TEST_CASE("a frame that lies whole in what was read is a window on it") {
  Outbox out;
  put_frame(out, 0, as_bytes("hello"));
  const Slice read = Slice::copy_of(bytes_of(out));
  FrameDecoder decoder;
  decoder.feed(read);
  auto frame = decoder.next(kWide);
  REQUIRE(frame.has_value());
  REQUIRE(frame->has_value());
  CHECK((*frame)->body.data() == read.data() + 2);
}

TEST_CASE("a frame that claims 8 EiB is refused at its ninth byte, and nothing is allocated") {
  FrameDecoder decoder;
  decoder.feed(Slice::copy_of(std::string_view("\x02\x7f\xff\xff\xff\xff\xff\xff\xff", 9)));
  auto frame = decoder.next(kWide);
  REQUIRE_FALSE(frame.has_value());
  CHECK(frame.error().code == Code::kTooLarge);
  CHECK(decoder.gathering_bytes() == 0);
}

TEST_CASE("reserved flags and a command with MORE are refused") {
  for (const std::string_view header : {std::string_view("\x08\x00", 2), std::string_view("\x05\x01", 2)}) {
    FrameDecoder decoder;
    decoder.feed(Slice::copy_of(header));
    auto frame = decoder.next(kWide);
    REQUIRE_FALSE(frame.has_value());
    CHECK(frame.error().rule == "frame_flags");
  }
}

TEST_CASE("a body that is too large to keep is read over, and the next frame is whole") {
  Outbox out;
  put_frame(out, 0, Slice::copy_of(std::string(50'000, 'x')));
  put_frame(out, 0, as_bytes("after"));
  const std::string stream = bytes_of(out);
  FrameDecoder decoder;
  std::vector<Frame> frames;
  const FrameDecoder::Limits limits{.keep_bytes = 1000, .data_bytes = 1 << 20, .command_bytes = 512};
  for (size_t at = 0; at < stream.size(); at += 777) {
    decoder.feed(Slice::copy_of(std::string_view(stream).substr(at, 777)));
    while (true) {
      auto frame = decoder.next(limits);
      REQUIRE(frame.has_value());
      if (!frame->has_value()) break;
      frames.push_back(std::move(**frame));
    }
    CHECK(decoder.gathering_bytes() < 1000);
  }
  REQUIRE(frames.size() == 2);
  CHECK(frames[0].dropped_bytes == 50'000);
  CHECK(frames[0].body.empty());
  CHECK(frames[1].body.text() == "after");
}

}  // namespace
}  // namespace mesh::zmtp
