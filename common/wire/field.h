// The few pieces of the protobuf wire format that our messages need: varints and byte strings behind one-byte tags.
//
// By hand because an envelope passes here four times per request and a generated class copies every name into a string
// of its own; the tests hold both directions against the generated classes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/base/slice.h"

namespace mesh::wire {

static_assert(std::endian::native == std::endian::little);

// Tags of fields 1 to 15, which take one byte.
consteval uint8_t number_tag(uint32_t field) { return field < 16 ? static_cast<uint8_t>(field << 3) : throw field; }
consteval uint8_t bytes_tag(uint32_t field) { return static_cast<uint8_t>(number_tag(field) | 2); }

consteval uint8_t fixed64_tag(uint32_t field) { return static_cast<uint8_t>(number_tag(field) | 1); }
consteval uint8_t fixed32_tag(uint32_t field) { return static_cast<uint8_t>(number_tag(field) | 5); }

// From 16 on a tag has two bytes.
consteval uint64_t wide_bytes_tag(uint32_t field) { return field < 16 ? throw field : uint64_t{field} << 3 | 2; }

inline constexpr size_t kVarintBytesMax = 10;

// Writes into memory that the caller has made large enough.
class FieldWriter {
 public:
  explicit FieldWriter(uint8_t* to) : at_(to) {}

  void varint(uint64_t value) {
    while (value >= 0x80) {
      *at_++ = static_cast<uint8_t>(value | 0x80);
      value >>= 7;
    }
    *at_++ = static_cast<uint8_t>(value);
  }
  void raw(ByteView bytes) {
    if (!bytes.empty()) std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  void tag(uint8_t value) { *at_++ = value; }
  void number(uint8_t tag_value, uint64_t value) {
    tag(tag_value);
    varint(value);
  }
  // fixed32 or fixed64, by the type; little-endian, as we and protobuf are.
  template <class Number>
  void fixed(uint8_t tag_value, Number value) {
    tag(tag_value);
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }
  void bytes(uint8_t tag_value, std::string_view value) {
    tag(tag_value);
    varint(value.size());
    raw(as_bytes(value));
  }
  // proto3 leaves out what has its default.
  void number_unless_zero(uint8_t tag_value, uint64_t value) {
    if (value != 0) number(tag_value, value);
  }
  void bytes_unless_empty(uint8_t tag_value, std::string_view value) {
    if (!value.empty()) bytes(tag_value, value);
  }
  // What `content` writes, with its length in front. Most are short enough for a length of one byte; the others are
  // moved.
  template <class Content>
  void with_length(Content content) {
    uint8_t* const start = at_;
    ++at_;
    content();
    const size_t length = static_cast<size_t>(at_ - start) - 1;
    if (length < 0x80) {
      *start = static_cast<uint8_t>(length);
      return;
    }
    uint8_t prefix[kVarintBytesMax];
    FieldWriter prefix_writer(prefix);
    prefix_writer.varint(length);
    const size_t prefix_bytes = static_cast<size_t>(prefix_writer.at_ - prefix);
    std::memmove(start + prefix_bytes, start + 1, length);
    std::memcpy(start, prefix, prefix_bytes);
    at_ = start + prefix_bytes + length;
  }

  uint8_t* position() const { return at_; }

 private:
  uint8_t* at_;
};

// Reads bytes from outside: every call says false when they break off or make no sense, and then reading has to stop.
class FieldReader {
 public:
  explicit FieldReader(ByteView bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  bool done() const { return at_ == end_; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }
  const uint8_t* position() const { return at_; }

  bool varint(uint64_t& value, size_t bytes_max = kVarintBytesMax) {
    if (at_ != end_ && *at_ < 0x80) {
      value = *at_++;
      return true;
    }
    value = 0;
    for (size_t i = 0; i < bytes_max && at_ != end_; ++i) {
      const uint64_t byte = *at_++;
      value |= (byte & 0x7F) << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }
  // The tag of the next field: its number << 3 | its wire type.
  bool tag(uint64_t& value) { return varint(value, 5) && value <= UINT32_MAX && value >> 3 != 0; }
  // The value of a fixed32 or fixed64 field, by the type, if it is the next one; otherwise nothing is read.
  template <class Number>
  bool fixed(uint8_t tag_value, Number& value) {
    if (remaining() < 1 + sizeof value || *at_ != tag_value) return false;
    std::memcpy(&value, at_ + 1, sizeof value);
    at_ += 1 + sizeof value;
    return true;
  }
  // A length and that many bytes; a view on the input.
  bool bytes(std::string_view& value) {
    uint64_t size = 0;
    if (!varint(size, 5) || size > remaining()) return false;
    value = {reinterpret_cast<const char*>(at_), static_cast<size_t>(size)};
    at_ += size;
    return true;
  }
  // Over the value of a field that is not known here. Groups are refused: proto3 has none, and they nest.
  bool skip(uint64_t tag_value) {
    uint64_t number = 0;
    std::string_view text;
    switch (tag_value & 7) {
      case 0:
        return varint(number);
      case 1:
        return advance(8);
      case 2:
        return bytes(text);
      case 5:
        return advance(4);
      default:
        return false;
    }
  }
  bool advance(size_t count) {
    if (count > remaining()) return false;
    at_ += count;
    return true;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

}  // namespace mesh::wire
