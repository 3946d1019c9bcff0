// The pixels of a class in the order of their errors, largest first.
//
// A pixel is an item: a key that is smaller where its error is larger, and its place in the tensor.
// Numbers >= 0 are ordered as their bits are. So the key is the complement of the error's bits
// with, below them, whether the pixel is of the class: at equal errors those come first, and what is
// equal has equal keys. With the gap's sign at the top that is the gap's bits rotated by one.
//
// Items are first put into buckets by the highest bits of their keys, by chunks and in parallel
// (extension.h); a bucket fits into a cache, and is sorted there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "uncounted.h"

namespace jml {

template <typename T>
JML_MATH Bits<T> key_of(T gap) {
  const Bits<T> bits = bit_cast<Bits<T>>(gap);
  return ~(bits << 1 | bits >> (8 * sizeof(T) - 1));
}

template <typename T>
JML_MATH T error_of(Bits<T> key) {
  return bit_cast<T>(Bits<T>(~key >> 1));
}

template <typename T>
JML_MATH bool is_of_class(Bits<T> key) {
  return (~key & 1) != 0;
}

template <typename T>
struct Item {
  Bits<T> bits;
  uint32_t offset;

  Item() {}
  Item(Bits<T> key, int64_t place) : bits(key), offset(uint32_t(place)) {}
  Bits<T> key() const { return bits; }
  int64_t place() const { return offset; }
  bool operator<(const Item& other) const { return bits < other.bits; }
};

// One number, which is written at once and ordered as its key is.
template <>
struct Item<float> {
  uint64_t number;

  Item() {}
  Item(uint32_t key, int64_t place) : number(uint64_t(key) << 32 | uint32_t(place)) {}
  uint32_t key() const { return uint32_t(number >> 32); }
  int64_t place() const { return uint32_t(number); }
  bool operator<(const Item& other) const { return number < other.number; }
};

// 16 buckets for each power of two. More of them are smaller, but take more lines of a cache while
// items are placed.
constexpr int kBucketBits = 12;
constexpr int kBuckets = 1 << kBucketBits;
template <typename T>
constexpr int kBitsInBucket = 8 * int(sizeof(T)) - kBucketBits;

template <typename T>
JML_MATH int bucket_of(Bits<T> key) {
  return int(key >> kBitsInBucket<T>);
}

// ---- within a bucket -----------------------------------------------------------------------

constexpr int64_t kInsertionItems = 24;
constexpr int64_t kComparedItems = 160;

template <typename T>
void insertion_sort(Item<T>* items, int64_t count) {
  for (int64_t i = 1; i < count; ++i) {
    const Item<T> item = items[i];
    int64_t j = i;
    for (; j > 0 && item < items[j - 1]; --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// Sorts by the low 20 bits of keys whose others are equal: two passes of counting, there and back.
class RadixSort {
 public:
  void operator()(Item<float>* items, int64_t count) {
    if (count > size) room.reset(new Item<float>[size = count]);
    std::fill(low, low + kLow, 0u);
    std::fill(high, high + kHigh, 0u);
    for (int64_t i = 0; i < count; ++i) {
      ++low[low_of(items[i])];
      ++high[high_of(items[i])];
    }
    to_starts(low, kLow);
    to_starts(high, kHigh);
    for (int64_t i = 0; i < count; ++i) room[low[low_of(items[i])]++] = items[i];
    for (int64_t i = 0; i < count; ++i) items[high[high_of(room[i])]++] = room[i];
  }

 private:
  static constexpr int kLowBits = 10;
  static constexpr int kLow = 1 << kLowBits, kHigh = 1 << (kBitsInBucket<float> - kLowBits);
  uint32_t low[kLow], high[kHigh];
  std::unique_ptr<Item<float>[]> room;
  int64_t size = 0;

  static uint32_t low_of(const Item<float>& item) { return item.key() % kLow; }
  static uint32_t high_of(const Item<float>& item) { return (item.key() >> kLowBits) % kHigh; }
  static void to_starts(uint32_t* counts, int size) {
    uint32_t start = 0;
    for (int i = 0; i < size; ++i) {
      const uint32_t count = counts[i];
      counts[i] = start;
      start += count;
    }
  }
};

// Sorts the items of a bucket; the room that this takes is kept for the next one.
template <typename T>
class BucketSort {
 public:
  void operator()(Item<T>* items, int64_t count) {
    if (count <= kInsertionItems) return insertion_sort(items, count);
    if (are_equal(items, count)) return;
    if constexpr (sizeof(T) == sizeof(float))
      if (count > kComparedItems) return radix_sort(items, count);
    std::sort(items, items + count);
  }

 private:
  RadixSort radix_sort;

  static bool are_equal(const Item<T>* items, int64_t count) {
    int64_t i = 1;
    while (i < count && items[i].key() == items[0].key()) ++i;
    return i == count;
  }
};

}  // namespace jml
