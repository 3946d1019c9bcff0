// The Lovász extension of the Jaccard loss of one class, and its slopes, which take the place of
// the gaps: see jml_kernels/lovasz/extension.py for the mathematics.
//
//     gaps -> how many fall into each bucket of keys, for each piece of the pixels
//          -> items in their buckets
//          -> each bucket sorted, with what comes before it known: value and slopes
//
// Pieces and buckets are the same whatever the number of threads, and sums are added in order.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "../huge_pages.h"
#include "sorting.h"

namespace jml {

// Pixels of one class where they lie: images of contiguous ones.
template <typename T>
struct ClassPixels {
  T* gaps;
  int64_t images, pixels, image_stride;

  int64_t count() const { return images * pixels; }
};

// Pixels of the class, P in all, and others.
struct Pair {
  int64_t of_class = 0, others = 0;
};

template <typename Body>
void in_parallel(int64_t count, Body body) {
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

template <typename T>
class Extension {
 public:
  // with_slopes: else only the value is asked for.
  Extension(int64_t most_pixels, bool with_slopes)
      : with_slopes(with_slopes), items(new_items(most_pixels)) {}

  // The value of a class with `of_class` pixels.
  double operator()(const ClassPixels<T>& pixels, int64_t of_class) {
    this->pixels = pixels;
    total = of_class;
    if (pixels.count() <= kFewPixels) return sort_few();
    cut_pieces();
    in_parallel(pieces, [&](int64_t piece) { count_keys(piece); });
    place_buckets();
    in_parallel(pieces, [&](int64_t piece) { place_items(piece); });
    cut_tasks();
    values.assign(tasks.size() - 1, 0.0);
    in_parallel(int64_t(values.size()), [&](int64_t task) { values[task] = sort_task(task); });
    double value = 0;
    for (double part : values) value += part;
    return value;
  }

 private:
  static constexpr int64_t kFewPixels = 1024;  // whose buckets would cost more than they save
  static constexpr int64_t kPiecePixels = 64 * 1024, kMostPieces = 32, kTasks = 64;

  const bool with_slopes;
  ClassPixels<T> pixels{};
  int64_t total = 0;  // P

  struct Free {
    void operator()(Item<T>* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<Item<T>[], Free> items;

  static Item<T>* new_items(int64_t count) {
    const size_t bytes = size_t(count) * sizeof(Item<T>);
    void* memory = std::malloc(bytes);
    if (!memory) throw std::bad_alloc();
    ask_for_huge_pages(memory, bytes);
    return static_cast<Item<T>*>(memory);
  }

  // The counts of a piece and bucket: all pixels, and in the high half those of the class. Then the
  // place of the piece's next item in the bucket.
  int64_t pieces = 0, pieces_of_image = 0, piece_pixels = 0, images_of_piece = 0;
  std::vector<uint64_t> counts;  // pieces x kBuckets
  std::vector<int64_t> first;    // kBuckets + 1: the first item of a bucket
  std::vector<Pair> before;      // kBuckets: pixels with smaller keys
  std::vector<int> tasks;        // buckets that a task begins with, and kBuckets
  std::vector<double> values;    // of tasks

  double sort_few() {
    int64_t count = 0;
    pieces_of_image = 1;
    piece_pixels = pixels.pixels;
    images_of_piece = pixels.images;
    for_pixels(0, [&](int64_t place, T gap) {
      const Bits<T> key = key_of(gap);
      if (key != key_of(uncounted<T>()))
        items.get()[count++] = Item<T>(key, place);
      else if (with_slopes)
        pixels.gaps[place] = 0;
    });
    std::sort(items.get(), items.get() + count);
    return add_sorted(items.get(), count, Pair());
  }

  void cut_pieces() {
    const int64_t asked_for =
        std::clamp<int64_t>(pixels.count() / kPiecePixels, 1, kMostPieces);
    const int64_t images = std::max<int64_t>(pixels.images, 1);
    pieces_of_image = std::max<int64_t>(asked_for / images, 1);
    piece_pixels = (pixels.pixels + pieces_of_image - 1) / pieces_of_image;
    // Of many images a piece holds several.
    images_of_piece = std::max<int64_t>((images + asked_for - 1) / asked_for, 1);
    pieces = (images + images_of_piece - 1) / images_of_piece * pieces_of_image;
    counts.assign(pieces * kBuckets, 0);
  }

  // Calls visit(place, gap) for the pixels of a piece.
  template <typename Visit>
  void for_pixels(int64_t piece, Visit visit) const {
    const int64_t image = piece / pieces_of_image * images_of_piece;
    const int64_t begin = piece % pieces_of_image * piece_pixels;
    const int64_t end = std::min(pixels.pixels, begin + piece_pixels);
    for (int64_t i = image; i < std::min(pixels.images, image + images_of_piece); ++i)
      for (int64_t place = i * pixels.image_stride + begin; place < i * pixels.image_stride + end;
           ++place)
        visit(place, pixels.gaps[place]);
  }

  void count_keys(int64_t piece) {
    uint64_t* count = counts.data() + piece * kBuckets;
    for_pixels(piece, [&](int64_t, T gap) {
      const Bits<T> key = key_of(gap);
      count[bucket_of<T>(key)] += 1 + (uint64_t(is_of_class<T>(key)) << 32);
    });
  }

  // Bucket 0 has pixels that do not count, and nothing else.
  void place_buckets() {
    first.resize(kBuckets + 1);
    before.resize(kBuckets);
    Pair seen;
    int64_t place = 0;
    for (int bucket = 0; bucket < kBuckets; ++bucket) {
      first[bucket] = place;
      before[bucket] = seen;
      for (int64_t piece = 0; piece < pieces; ++piece) {
        uint64_t& count = counts[piece * kBuckets + bucket];
        const int64_t all = int64_t(count & 0xffffffffu), of_class = int64_t(count >> 32);
        count = uint64_t(place);
        if (bucket == 0) continue;
        place += all;
        seen.of_class += of_class;
        seen.others += all - of_class;
      }
    }
    first[kBuckets] = place;
  }

  void place_items(int64_t piece) {
    uint64_t* next = counts.data() + piece * kBuckets;
    Item<T>* const to = items.get();
    for_pixels(piece, [&](int64_t place, T gap) {
      const Bits<T> key = key_of(gap);
      const int bucket = bucket_of<T>(key);
      if (bucket == 0) {
        if (with_slopes) pixels.gaps[place] = 0;
      } else {
        to[next[bucket]++] = Item<T>(key, place);
      }
    });
  }

  // Tasks of about as many items each.
  void cut_tasks() {
    tasks.assign(1, 0);
    const int64_t least = first[kBuckets] / kTasks + 1;
    for (int bucket = 1; bucket < kBuckets; ++bucket)
      if (first[bucket] - first[tasks.back()] >= least) tasks.push_back(bucket);
    tasks.push_back(kBuckets);
  }

  double sort_task(int64_t task) {
    BucketSort<T> sort;
    double value = 0;
    for (int bucket = tasks[task]; bucket < tasks[task + 1]; ++bucket) {
      const int64_t count = first[bucket + 1] - first[bucket];
      if (count == 0) continue;
      Item<T>* of_bucket = items.get() + first[bucket];
      sort(of_bucket, count);
      value += add_sorted(of_bucket, count, before[bucket]);
    }
    return value;
  }

  // The pixels of a bucket in their order, after `seen` others; those with one key have one slope.
  double add_sorted(const Item<T>* sorted, int64_t count, const Pair& seen) {
    T* const slopes = pixels.gaps;
    double value = 0, with_class = double(total + seen.others);  // P + n
    double missing = double(total - seen.of_class);              // P - p
    for (int64_t begin = 0, end; begin < count; begin = end) {
      const Bits<T> key = sorted[begin].key();
      for (end = begin + 1; end < count && sorted[end].key() == key;) ++end;
      const bool of_class = is_of_class<T>(key);
      const double equal = double(end - begin);
      const double others = of_class ? 0.0 : equal;
      // 1 / (P + n), or (P - p) / ((P + n) (P + n + k))
      const double numerator = of_class ? 1.0 : missing;
      const double denominator = with_class * (of_class ? 1.0 : with_class + equal);
      const double slope =
          total == 0 ? slope_without_class(with_class, equal) : numerator / denominator;
      with_class += others;
      missing -= equal - others;
      value += slope != 0 ? double(error_of<T>(key)) * slope * equal : 0.0;
      const T signed_slope = T(of_class ? -slope : slope);
      for (int64_t i = begin; with_slopes && i < end; ++i) slopes[sorted[i].place()] = signed_slope;
    }
    return value;
  }

  static double slope_without_class(double seen, double equal) {
    return seen == 0 ? 1.0 / equal : 0.0;
  }
};

}  // namespace jml
