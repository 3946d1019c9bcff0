// Counters of a block. They lie in shared memory, as 32-bit numbers, and are added to global memory
// when the block ends; what has no room there goes to global memory at once.
//
// Neighbouring pixels mostly have the same to count. So the lanes of a warp add up first what goes
// to one place, and one of them adds the sum.
#pragma once

#include "tally_arguments.cuh"
#include "team.cuh"

namespace jml::cuda {

// ---- lanes that count the same ---------------------------------------------------------------
struct Group {
  unsigned lanes;

  // Those of `who` with this key.
  template <typename Key>
  JML_DEVICE static Group of(unsigned who, Key key) {
    return {__match_any_sync(who, key)};
  }
  JML_DEVICE bool is_led_by(int lane) const { return __ffs(int(lanes)) - 1 == lane; }
  JML_DEVICE unsigned size() const { return unsigned(__popc(lanes)); }
  JML_DEVICE unsigned count(bool is_one) const {
    return unsigned(__popc(__ballot_sync(lanes, is_one)));
  }
  // Of numbers up to 2^30.
  JML_DEVICE Count sum(unsigned number) const {
    const unsigned low = __reduce_add_sync(lanes, number & 0x7fff);
    const unsigned high = __reduce_add_sync(lanes, number >> 15);
    return (Count{high} << 15) + low;
  }
};

// ---- bins -----------------------------------------------------------------------------------
// Bins of probabilities. In shared memory a block's number of pixels may be below 0: from the first
// bin of a class is taken off what is in the others, and all pixels are added at the end.
struct Bins {
  unsigned* shared;  // [4][count], or null: pixels, correct ones, lower and upper halves of sums
  Count* global;     // [count][kBinColumns]
  int64_t count;

  static constexpr int64_t bytes(int64_t count) { return 4 * count * int64_t(sizeof(unsigned)); }

  JML_DEVICE void add(int64_t bin, int pixels, int correct, Count units) const {
    if (shared) {
      if (pixels) atomicAdd(shared + bin, unsigned(pixels));
      if (correct) atomicAdd(shared + count + bin, unsigned(correct));
      if (units) {
        const unsigned low = unsigned(units);
        const unsigned before = atomicAdd(shared + 2 * count + bin, low);
        const unsigned high = unsigned(units >> 32) + (before + low < before);
        if (high) atomicAdd(shared + 3 * count + bin, high);
      }
    } else {
      Count* const to = global + bin * kBinColumns;
      if (pixels) atomicAdd(to + kBinPixels, Count(int64_t(pixels)));
      if (correct) atomicAdd(to + kBinCorrect, Count(int64_t(correct)));
      if (units) atomicAdd(to + kBinProbability, units);
    }
  }

  // A number of shared memory, as wide as the global one.
  JML_DEVICE Count number(int64_t bin, int column) const {
    if (column < kBinProbability) return Count(int64_t(int(shared[column * count + bin])));
    return Count{shared[3 * count + bin]} << 32 | shared[2 * count + bin];
  }
  // The block's threads add what is in shared memory to global memory.
  JML_DEVICE void publish(const Team& team) const {
    if (!shared) return;
    for (int64_t bin = team.rank() / kBinColumns, column = team.rank() % kBinColumns,
                 step = team.threads() / kBinColumns, rest = team.threads() % kBinColumns;
         bin < count;) {
      const Count value = number(bin, int(column));
      if (value) atomicAdd(global + bin * kBinColumns + column, value);
      bin += step;
      column += rest;
      if (column >= kBinColumns) {
        column -= kBinColumns;
        ++bin;
      }
    }
  }
};

// ---- elements that are binned by themselves -------------------------------------------------
// A warp's queue of elements that go to bins of classes. There are few among many: where all lanes
// wait for some, they are put here, and taken out by all lanes, in one place of the code.
struct Queue {
  // Room for those of two rows of 8 pixels, of which one is left to be taken out later.
  static constexpr unsigned kRoom = 512, kMostLeft = kRoom / 2;
  struct alignas(8) Element {
    unsigned bin;    // among all classes' bins
    unsigned about;  // units, less 1, and the flags
  };
  static constexpr unsigned kUnits = (1u << 30) - 1, kInFirstBin = 1u << 30, kIsLabel = 1u << 31;
  static constexpr int64_t kBytes = kRoom * int64_t(sizeof(Element));

  Element* elements;
  unsigned size = 0;  // all lanes have the same

  // `who` are the lanes that put one.
  JML_DEVICE void put(unsigned who, int lane, const Element& element) {
    if (who >> lane & 1)
      elements[size + unsigned(__popc(who & ((1u << lane) - 1)))] = element;
    size += unsigned(__popc(who));
  }

  JML_DEVICE void empty(const Bins& classwise, int bins, int lane) {
    __syncwarp();
#pragma unroll 1
    for (unsigned start = 0; start < size; start += kLanes) {
      const bool is_one = start + unsigned(lane) < size;
      const unsigned who = __ballot_sync(kAllLanes, is_one);
      if (is_one) add(who, elements[start + unsigned(lane)], classwise, unsigned(bins), lane);
    }
    __syncwarp();
    size = 0;
  }

 private:
  JML_DEVICE static void add(unsigned who, const Element& element, const Bins& classwise,
                             unsigned bins, int lane) {
    const Group group = Group::of(who, element.bin);
    const int correct = int(group.count(element.about & kIsLabel));
    const Count sum = group.sum((element.about & kUnits) + 1);
    if (!group.is_led_by(lane)) return;
    const int pixels = int(group.size());
    const bool is_first = element.about & kInFirstBin;
    classwise.add(element.bin, is_first ? 0 : pixels, is_first ? 0 : correct, sum);
    if (!is_first) classwise.add(element.bin / bins * bins, -pixels, -correct, 0);
  }
};

// ---- classes --------------------------------------------------------------------------------
// Pairs of label and prediction. Where classes are few a block has the whole matrix. Where they are
// more it counts for each class how often it is both, is predicted and is labelled; pixels that are
// predicted wrongly are spread over so many pairs that global memory takes them.
struct Pairs {
  unsigned* matrix;      // [classes][classes], or null
  unsigned* of_classes;  // [3][classes]: the rows kHits, kPredicted, kLabelled; or null
  const TallyArguments& args;
  int64_t image;

  static constexpr int64_t matrix_bytes(int64_t classes) {
    return classes * classes * int64_t(sizeof(unsigned));
  }
  static constexpr int64_t class_bytes(int64_t classes) {
    return 3 * classes * int64_t(sizeof(unsigned));
  }

  JML_DEVICE void add(int label, int prediction, unsigned pixels) const {
    if (matrix) {
      atomicAdd(matrix + label * args.classes + prediction, pixels);
    } else if (of_classes) {
      atomicAdd(of_classes + kPredicted * args.classes + prediction, pixels);
      atomicAdd(of_classes + kLabelled * args.classes + label, pixels);
      if (label == prediction)
        atomicAdd(of_classes + kHits * args.classes + label, pixels);
      else
        add_pair(label, prediction, pixels);
    } else {
      add_all(label, prediction, pixels);
    }
  }

  JML_DEVICE void publish(const Team& team) const {
    const int classes = int(args.classes);
    if (matrix) {
      int label = team.rank() / classes, prediction = team.rank() % classes;
      const int step = team.threads() / classes, rest = team.threads() % classes;
      while (label < classes) {
        const unsigned pixels = matrix[label * classes + prediction];
        if (pixels) add_all(label, prediction, pixels);
        label += step;
        prediction += rest;
        if (prediction >= classes) {
          prediction -= classes;
          ++label;
        }
      }
    } else if (of_classes) {
      for (int c = team.rank(); c < classes; c += team.threads()) {
        const unsigned hits = of_classes[kHits * classes + c];
        if (hits) add_pair(c, c, hits);
        if (hits) atomicAdd(row(kHits) + c, Count{hits});
        const unsigned predicted = of_classes[kPredicted * classes + c];
        if (predicted) atomicAdd(row(kPredicted) + c, Count{predicted});
        add_labelled(c, of_classes[kLabelled * classes + c]);
      }
    }
  }

 private:
  JML_DEVICE Count* row(ImageRow which) const {
    return args.outputs.of_image(image, which, args.classes);
  }
  JML_DEVICE void add_pair(int label, int prediction, unsigned pixels) const {
    atomicAdd(args.outputs.confusion + label * args.classes + prediction, Count{pixels});
  }
  // All labels of a class are in its first bin, before those of other bins are taken off.
  JML_DEVICE void add_labelled(int label, unsigned pixels) const {
    if (!pixels) return;
    atomicAdd(row(kLabelled) + label, Count{pixels});
    if (args.classwise)
      atomicAdd(args.outputs.classwise + int64_t{label} * args.bins * kBinColumns + kBinCorrect,
                Count{pixels});
  }
  JML_DEVICE void add_all(int label, int prediction, unsigned pixels) const {
    add_pair(label, prediction, pixels);
    if (label == prediction) atomicAdd(row(kHits) + label, Count{pixels});
    atomicAdd(row(kPredicted) + prediction, Count{pixels});
    add_labelled(label, pixels);
  }
};

}  // namespace jml::cuda
