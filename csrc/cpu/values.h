// The values of a tile: which elements of a dense target are ignored one by one, and what is no
// probability where one is expected, which is a fault (faults.h).
//
// Mostly a tile has neither, which its largest bits tell (largest_bits.h).
//
// An ignored element gets the target -0 and, if that does without other classes, a prediction of 0.
// Its terms are then 0 in every sum. Only a softmax still gives it a share of the pixel, which is
// left out where sums and gradients would meet it. In a tile with ignored elements no other target
// is -0.
#pragma once

#include "elementary.h"
#include "sums.h"
#include "tile.h"

namespace jml::JML_ISA {

// 0 where the element of a target is ignored, and else `value`.
template <typename T>
JML_MATH Vector<T> if_counted(Vector<T> target, Vector<T> value) {
  const auto bits = bit_cast<Vector<Bits<T>>>(target);
  return bits == bit_cast<Bits<T>>(T(-0.0)) ? Vector<T>{} : value;
}

// Puts `value` where the element of a target is ignored.
template <typename T>
void replace_ignored(const T* __restrict target, T value, T* __restrict row, int n) {
  for (int i = 0; i < n; ++i) row[i] = is_ignored_target(target[i]) ? value : row[i];
}

// Whether an element of a class counts.
template <typename T>
bool any_counted(const T* __restrict target, const T* __restrict valid, int n) {
  int count = 0;
  for (int i = 0; i < n; ++i) count += valid[i] != 0 && !is_ignored_target(target[i]);
  return count > 0;
}

// Whether all numbers of a tile are probabilities, and none is -0.
template <typename T>
bool are_probabilities(const T* tile, int64_t stride, int64_t classes, int n) {
  LargestBits<T> largest;
  for (int64_t c = 0; c < classes; ++c)
    for (int i = 0; i < n; i += 2 * kWidth<T>) {
      const T* place = tile + c * stride + i;
      largest.add(bit_cast<Vector<Bits<T>>>(load(place, 0)),
                  bit_cast<Vector<Bits<T>>>(load(place, kWidth<T>)));
    }
  return largest.are_probabilities();
}

// Elements that equal `ignored` get the target -0. `counted` gains 1 where an element does not.
template <typename T>
void mark_ignored(T ignored, T* __restrict target, T* __restrict counted, int n) {
  for (int i = 0; i < n; ++i) {
    const bool counts = target[i] != ignored;
    target[i] = counts ? target[i] + T(0) : T(-0.0);  // -0 + 0 is 0
    counted[i] += counts ? T(1) : T(0);
  }
}

// Pixels without an element that counts do not count either. Returns how many elements count.
template <typename T>
int keep_counted(const T* __restrict counted, T* __restrict valid, int n) {
  int elements = 0;
  for (int i = 0; i < n; ++i) {
    elements += valid[i] != 0 ? int(counted[i]) : 0;
    valid[i] = counted[i] != 0 ? valid[i] : T(0);
  }
  return elements;
}

// Independent labels 0 and 1 become their targets, but where they are ignored.
template <typename T>
void smooth_row(LabelTarget<T> target, const T* __restrict valid, T* __restrict y, int n) {
  for (int i = 0; i < n; ++i) {
    const T smoothed = valid[i] * (y[i] == 1 ? target.at_label : target.elsewhere);
    y[i] = is_ignored_target(y[i]) ? y[i] : smoothed;
  }
}

// The first number of a row that does not fit, or -1. Mostly there is none, which counting shows
// faster than a search does.
template <typename T, typename Fits>
int first_misfit(const T* row, int n, Fits fits) {
  int misfits = 0;
  for (int i = 0; i < n; ++i) misfits += fits(row[i]) ? 0 : 1;
  for (int i = 0; misfits && i < n; ++i)
    if (!fits(row[i])) return i;
  return -1;
}

template <typename T>
class TileValues {
 public:
  explicit TileValues(Tile<T>& tile)
      : tile(tile), args(tile.args), classes(tile.classes), ignored(T(args.ignored_target())) {}

  // Whether the values of a dense target matter.
  bool looks_at_dense(bool finds_faults) const {
    return args.ignores_elements() || (finds_faults && has_checked_target());
  }

  // Looks at a dense target as it lies in its tensor.
  void look_at_dense(const Pixels& pixels, bool finds_faults) {
    tile.has_ignored = false;
    if (!looks_at_dense(finds_faults)) return;
    // Integers 0 and 1 may be ignored themselves.
    const bool ignores = args.ignores_elements();
    const bool ignores_probabilities = ignores && (ignored == 0 || ignored == 1);
    if (!ignores_probabilities && are_all_probabilities(tile.dense)) return;
    if (ignores) find_ignored();
    if (!finds_faults) return;
    if (args.integer_dense())
      find_faults(tile.y, pixels, tile.faults.label, [](T y) { return y == 0 || y == 1; });
    else if (args.holds_probabilities())
      find_faults(tile.y, pixels, tile.faults.dense, [](T y) { return is_probability(y); });
  }

  // Whether the logits are to be probabilities.
  bool looks_at_logits(bool finds_faults) const {
    return finds_faults && args.activation == Activation::none;
  }

  void look_at_logits(const Pixels& pixels, bool finds_faults) {
    if (looks_at_logits(finds_faults) && !are_all_probabilities(tile.logits))
      find_faults(tile.x, pixels, tile.faults.logits, [](T x) { return is_probability(x); });
  }

 private:
  Tile<T>& tile;
  const Arguments& args;
  const int64_t classes;
  const T ignored;  // ignore_index, as the dense target's dtype has it

  bool has_checked_target() const { return args.integer_dense() || args.holds_probabilities(); }

  bool are_all_probabilities(const TileSource<T>& source) const {
    return source.known_probabilities ||
           are_probabilities(source.tile, tile.stride, classes, tile.padded);
  }

  // Marks ignored elements. A pixel of which all are ignored does not count.
  void find_ignored() {
    const int n = tile.padded;
    T* counted = tile.counted_elements;
    fill(counted, n, T(0));
    for (int64_t c = 0; c < classes; ++c) mark_ignored(ignored, tile.y_row(c), counted, n);
    const int64_t most = count_valid(tile.valid, n) * classes;
    tile.elements = keep_counted(counted, tile.valid, n);
    tile.has_ignored = tile.elements < most;
  }

  // Positions are elements of the image, in the order of a tensor (C, *spatial).
  template <typename Fits>
  void find_faults(const T* rows, const Pixels& pixels, int64_t& first, Fits fits) {
    for (int64_t c = 0; c < classes; ++c) {
      const int i = first_misfit(rows + c * tile.stride, tile.count, fits);
      if (i >= 0) first = std::min(first, c * args.pixels + pixels.first + i);
    }
  }
};

}  // namespace jml::JML_ISA
