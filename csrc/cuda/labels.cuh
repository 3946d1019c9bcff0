// The code of each pixel: what its label and the mask say of it. A block makes the codes of its
// tile once, in shared memory.
#pragma once

#include "tile_io.cuh"

namespace jml::cuda {

// The low bits hold the class of the label plus 1, or 0 where no class is the label's (label 0 of a
// binary task). The flags say whether the pixel counts, whether its label is smoothed, and whether
// it is wrong: its label is out of range, or its dense target holds what is no probability. A wrong
// pixel makes the loss NaN. The last flag is for fast kernels, whether the thread has elements of
// the pixel that are ignored one by one.
struct Code {
  static constexpr int kClass = (1 << 28) - 1, kHasIgnored = 1 << 28, kValid = 1 << 29;
  static constexpr int kSmoothed = 1 << 30, kWrong = int(1u << 31);
};

// Where there is a softmax the task is not binary.
template <class C>
JML_DEVICE int label_code(const Problem& problem, int64_t label) {
  return jml::label_code(label, problem.ignore_index,
                         C::kSoftmax ? problem.classes : problem.label_count());
}

// ---- boundaries -----------------------------------------------------------------------------
// A pixel is at a boundary if its window holds another label, and none that is ignored or out of
// range (section 2.4.1 of the paper). The window is cut off at the edge of the image. It is taken
// apart: a block finds the range of the codes in each column of its tile and beside it, over the
// rows and the depth of a window, and then a pixel looks at the columns of its window. That makes
// k^(d-1) + k steps for a pixel and not k^d, and a label is read k^(d-1) times.

struct alignas(8) CodeRange {
  int lowest = Code::kClass, highest = -1;

  JML_DEVICE void widen(int code) { widen(CodeRange{code, code}); }
  JML_DEVICE void widen(const CodeRange& other) {
    lowest = other.lowest < lowest ? other.lowest : lowest;
    highest = other.highest > highest ? other.highest : highest;
  }
  // An ignored label, and one out of range, have less than any other.
  JML_DEVICE bool is_of_boundary() const { return lowest >= 0 && lowest < highest; }
};

// How many columns lie in shared memory at a time. Windows of up to 33 pixels find all of theirs
// at once.
template <class C>
constexpr int kColumns = C::kLabels && !C::kHard ? (C::V + 1) * kLanes : 0;

// Finds the ranges of the columns [from, to), which all have the same rows and planes. `center` is
// the pixel in the middle of the first one. The team's threads share them out. Three rows are taken
// at a time, so that these loads do not wait for one another, or one of them again where there are
// fewer. Mostly they have one label.
template <class C, typename L>
JML_DEVICE void find_columns(const Arguments& args, const L* labels, const Position& center,
                             int radius, const Team& team, CodeRange* columns, int from, int to) {
  const auto at_most_radius = [&](int64_t count) { return int(count < radius ? count : radius); };
  const int up = at_most_radius(center.row), back = at_most_radius(center.depth);
  const int rows = up + 1 + at_most_radius(args.spatial[1] - 1 - center.row);
  const int planes = back + 1 + at_most_radius(args.spatial[0] - 1 - center.depth);
  const auto& stride = args.labels.spatial_stride;
  labels += offset_of(args.labels,
                      {center.depth - back, center.row - up, center.column + team.rank()});
#pragma unroll 1
  for (int plane = 0; plane < planes; ++plane, labels += stride[0]) {
    const L* of_row = labels;
#pragma unroll 1
    for (int row = 0; row < rows; row += 3, of_row += 3 * stride[1]) {
      const L* label = of_row;
      const int64_t second = row + 1 < rows ? stride[1] : 0;
      const int64_t third = row + 2 < rows ? 2 * second : second;
      const bool is_begun = plane > 0 || row > 0;
#pragma unroll 1
      for (int i = from + team.rank(); i < to; i += team.threads()) {
        const L number = label[0], below = label[second], last = label[third];
        CodeRange range = is_begun ? columns[i] : CodeRange{};
        range.widen(label_code<C>(args, label_number(number)));
        if ((below ^ number) | (last ^ number)) {
          range.widen(label_code<C>(args, label_number(below)));
          range.widen(label_code<C>(args, label_number(last)));
        }
        columns[i] = range;
        label += team.threads() * stride[2];
      }
    }
  }
}

JML_DEVICE bool is_masked(const Arguments& args, const TileRange& range, int64_t pixel) {
  if (!args.mask.given) return false;
  const int64_t offset =
      range.image * args.mask.image_stride + offset_of(args, args.mask, args.mask_access, pixel);
  return !static_cast<const uint8_t*>(args.mask.data)[offset];
}

// The code of a pixel that the mask does not take out, from that of its label, before anything is known
// of smoothing; and that of any pixel, before anything is known of boundaries.
template <class C>
JML_DEVICE int code_of_label(const Arguments& args, int label) {
  if (label == kIgnored) return 0;
  // A label out of range stands for class 0, so that all that comes of it is within the arrays.
  if (label == kOutOfRange) return Code::kValid | Code::kWrong | 1;
  return Code::kValid | (label + (!C::kSoftmax && args.binary() ? 0 : 1));
}
template <class C>
JML_DEVICE int code_of(const Arguments& args, const TileRange& range, int label, int64_t pixel) {
  if (pixel >= args.pixels || is_masked(args, range, pixel)) return 0;
  const int code = code_of_label<C>(args, label);
  const bool smoothed = !C::kHard && args.target_elsewhere != 0 && args.boundary_size == 0;
  return smoothed && code > 0 ? code | Code::kSmoothed : code;
}

// Marks those of the tile's pixels that are at a boundary. Each thread changes the codes that it
// wrote. The columns are counted from the tile's first pixel, and those of its next row follow: a
// window looks at none of another row. `start` is the first that lies in shared memory.
template <class C>
JML_DEVICE void find_boundary(const Arguments& args, const TileRange& range, const Team& team,
                              int* codes, CodeRange* columns) {
  constexpr int V = C::V;
  const auto smaller = [](int64_t a, int64_t b) { return int(a < b ? a : b); };
  // Nobody could wait for longer windows.
  const int radius = smaller(args.boundary_size / 2, 1 << 29);
  const int pixels =
      C::kHasBox ? range.pixels : smaller(args.pixels - range.first_pixel, V * kLanes);
  // How many pixels of its row a pixel has in front and behind, as far as the tile's windows reach.
  const auto in_front = [&](const Position& at) { return smaller(at.column, radius); };
  const auto behind = [&](const Position& at) {
    return smaller(args.spatial[2] - 1 - at.column, V * kLanes + radius);
  };
  const Position first = locate(args, range.first_pixel);
  const int in_front_of_first = in_front(first), behind_first = behind(first);
  CodeRange windows[V];
#pragma unroll 1
  for (int start = -radius; start < pixels + radius; start += kColumns<C>) {
    if (start > -radius) team.sync();  // whoever still reads the columns before
    visit_integer(args.labels, [&](const auto* labels) {
      labels += range.image * args.labels.image_stride;
      // Goes through the rows that the tile lies in, mostly one.
      Position center = first;
#pragma unroll 1
      for (int begin = 0; begin < pixels;) {
        const int next = begin + behind(center) + 1, last = smaller(next, pixels + radius);
        const int from = begin - in_front(center) - start, to = last - start;
        const int skipped = from < 0 ? -from : 0;
        center.column += skipped - in_front(center);
        find_columns<C>(args, labels, center, radius, team, columns, from + skipped,
                        to < kColumns<C> ? to : kColumns<C>);
        begin = next;
        center = {center.depth, center.row + 1, 0};
        if (center.row == args.spatial[1]) center = {center.depth + 1, 0, 0};
      }
    });
    team.sync();
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int place = v * team.threads() + team.rank();
      const int i = pixel_in_tile<C>(args, place / kLanes, place % kLanes);
      if (place >= V * kLanes || i >= pixels) continue;
      int left = in_front_of_first + i, right = behind_first - i;
      if (right < 0) {  // it lies in another row
        const Position at = locate(args, range.first_pixel + i);
        left = in_front(at);
        right = behind(at);
      }
      left = i - smaller(left, radius) - start;
      right = i + smaller(right, radius) - start;
      right = smaller(right, kColumns<C> - 1);
#pragma unroll 1
      for (int j = left > 0 ? left : 0; j <= right; ++j) windows[v].widen(columns[j]);
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int place = v * team.threads() + team.rank();
    if (place < V * kLanes && (codes[place] & Code::kValid) && windows[v].is_of_boundary())
      codes[place] |= Code::kSmoothed;
  }
}

// Writes the codes of the block's tile. A thread reads the labels of all its pixels before it uses
// the first, so that these loads do not wait for one another.
template <class C>
JML_DEVICE void write_codes(const Arguments& args, const TileRange& range, const Team& team,
                            int* codes, CodeRange* columns) {
  constexpr int V = C::V;
  const auto pixel_of_place = [&](int place) {
    return pixel_of<C>(args, range, place / kLanes, place % kLanes);
  };
  if (!C::kLabels || !args.has_labels()) {
    for (int place = team.rank(); place < V * kLanes; place += team.threads()) {
      const int64_t pixel = pixel_of_place(place);
      codes[place] = pixel < args.pixels && !is_masked(args, range, pixel) ? Code::kValid : 0;
    }
    return;
  }
  int64_t values[V];
  visit_integer(args.labels, [&](const auto* labels) {
    labels += range.image * args.labels.image_stride;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int place = v * team.threads() + team.rank();
      const int64_t pixel = pixel_of_place(place);
      values[v] = place < V * kLanes && pixel < args.pixels
                      ? label_number(labels[offset_of(args, args.labels, args.labels_access, pixel)])
                      : 0;
    }
  });
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int place = v * team.threads() + team.rank();
    if (place < V * kLanes)
      codes[place] =
          code_of<C>(args, range, label_code<C>(args, values[v]), pixel_of_place(place));
  }
  if constexpr (!C::kHard) {
    if (args.target_elsewhere != 0 && args.boundary_size != 0)
      find_boundary<C>(args, range, team, codes, columns);
  }
}

}  // namespace jml::cuda
