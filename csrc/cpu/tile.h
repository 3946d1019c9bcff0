// A tile: some pixels of an image with all their classes, and everything about them that the
// statistics and the gradient are made of.
//
//     labels -> codes -> on, off       what the target is at the label and elsewhere
//     logits -> x (classes x pixels)   TileReader
//     take the label's logit out of the tile: what stays has the target `off`, one row for all
//         classes, and the label's own terms are one number a pixel
//     x -> e^(x - largest), its sum    x = e * scale, scale = valid / sum
//
// A dense target has a tile of its own in place of on and off.
#pragma once

#include <cstdlib>
#include <memory>

#include "activation.h"
#include "labels.h"
#include "pixels.h"
#include "tile_reader.h"

namespace jml::JML_ISA {

// All that a thread needs to work on a tile, in one piece of memory.
template <typename T>
struct Tile {
  const Arguments& args;
  const int64_t classes;
  const int64_t stride;  // between rows: a line more than the pixels, so that rows a power of two
                         // long do not fight for the same cache sets
  int count = 0;         // pixels of this tile
  int padded = 0;        // the same, up to a multiple of kRowStep; padding is not valid
  bool all_valid = true;
  bool smooth = false;  // whether `off` is not 0 somewhere

  T *x, *y;                        // classes x stride; x has one more, of pixels with no label
  T *valid;                        // 1 or 0
  T *on, *off;                     // target at the label and elsewhere, 0 where not valid
  T *smooth_on, *smooth_off;       // where they are when labels are smoothed; else valid and 0
  T* zero;
  T *scale, *dot;                  // probability = x * scale; dot = sum of probability * g
  T *label_x, *label_miss;         // probability of the label, and of all others
  T *label_tp, *label_fp, *label_fn, *label_xy, *label_gradient;
  int32_t *code, *row;  // label, and the row of its class or `classes` where it has none
  int32_t *lowest, *highest, *boundary;
  uint8_t* mixed;      // for each kBlock pixels: whether `off` is not 0 somewhere
  uint8_t* one_label;  // for each kBlock pixels: whether they have one row
  uint8_t* here;       // for each row: whether a pixel has it
  Run* run;
  TileReader<T> logits, dense;
  Feed dense_feed;  // for the loops over x and y to run

  explicit Tile(const Arguments& args)
      : args(args),
        classes(args.classes),
        stride(args.tile_pixels + 64 / int(sizeof(T))),
        logits(args.logits, args, stride, run),
        dense(args.dense, args, stride, run) {
    const int64_t pixels = args.tile_pixels, halo = args.boundary_size;
    // Once to count the bytes, once to hand them out.
    for (bool allocated : {false, true}) {
      int64_t used = 0;
      auto take = [&](auto*& pointer, int64_t size) {
        using Pointer = std::remove_reference_t<decltype(pointer)>;
        if (allocated) pointer = reinterpret_cast<Pointer>(memory.get() + used);
        used += (size * int64_t(sizeof(*pointer)) + 63) / 64 * 64;
      };
      for (T** rows : {&logits.tile, &logits.ahead}) take(*rows, (classes + 1) * stride);
      for (T** rows : {&dense.tile, &dense.ahead}) take(*rows, has_labels() ? 0 : classes * stride);
      for (T** rows : {&valid, &smooth_on, &smooth_off, &zero, &scale, &dot, &label_x, &label_miss,
                       &label_tp, &label_fp, &label_fn, &label_xy, &label_gradient})
        take(*rows, pixels);
      for (int32_t** rows : {&code, &row, &lowest, &highest, &boundary}) take(*rows, pixels + halo);
      take(run, pixels);
      for (uint8_t** flags : {&mixed, &one_label}) take(*flags, pixels);
      take(here, classes + 1);
      if (!allocated) memory = allocate_bytes(used);
    }
    fill(zero, pixels, T(0));
    on = valid;
    off = zero;
  }

  // Valid until the next call: they share their room.
  Runs runs(const TensorView& view, const Pixels& pixels) const {
    return Runs(view, args.spatial, pixels, run);
  }

  bool has_labels() const { return args.labels.data; }

  // An ignored element of an integer target has no gradient.
  void clear_ignored(const Pixels& pixels) {
    load_tile(args.dense, pixels.image, runs(args.dense, pixels), classes, y, stride);
    for (int64_t c = 0; c < classes; ++c)
      for (int p = 0; p < count; ++p)
        if (y[c * stride + p] == T(args.ignore_index)) x[c * stride + p] = 0;
  }

  // Everything about pixels of an image but their statistics: x before its factor `scale`, the
  // target, the label's probability. The pixels that are to come next are copied meanwhile.
  // Returns the position of the first label out of range, -1 if there is none.
  // With labels `dot_rule`, a number for each class, also gives dot = sum of it times x.
  int64_t load(const Pixels& pixels, const Pixels& next, const T* dot_rule) {
    count = pixels.count;
    padded = (count + kRowStep<T> - 1) / kRowStep<T> * kRowStep<T>;
    const bool softmax = args.activation == Activation::softmax;
    const bool sigmoid = args.activation == Activation::sigmoid;
    int64_t bad = load_valid(pixels);
    logits.load(pixels, padded);
    x = logits.tile;
    if (args.dense.data) {
      dense_feed.finish();
      dense.load(pixels, padded);
      y = dense.tile;
    }
    // A pixel that does not count gets logits 0, so that NaN in it goes nowhere.
    if (!all_valid) clear_invalid(x);
    if (!all_valid && args.dense.data) clear_invalid(y);
    const T nothing = softmax || sigmoid ? -std::numeric_limits<T>::infinity() : T(0);
    if (has_labels()) take_label(nothing);
    Feed logits_feed = logits.feed(next);
    if (args.dense.data) dense_feed = dense.feed(next);
    if (softmax) {
      const SoftmaxRows<T> rows{valid, label_x, label_miss, scale, dot};
      if (dot_rule)
        softmax_tile<true, true>(x, classes, stride, padded, dot_rule, rows, logits_feed);
      else if (has_labels())
        softmax_tile<true, false>(x, classes, stride, padded, dot_rule, rows, logits_feed);
      else
        softmax_tile<false, false>(x, classes, stride, padded, dot_rule, rows, logits_feed);
    } else {
      for (int64_t c = 0; sigmoid && c < classes; ++c) sigmoid_row(x + c * stride, padded);
      if (sigmoid && has_labels()) sigmoid_row(label_x, padded);
      copy(valid, padded, scale);
    }
    logits_feed.finish();
    if (args.integer_dense()) bad = std::max(bad, smooth_integers(pixels.first));
    return bad;
  }

 private:
  struct Free {
    void operator()(char* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<char, Free> memory;

  static std::unique_ptr<char, Free> allocate_bytes(int64_t bytes) {
    auto* pointer = static_cast<char*>(std::aligned_alloc(64, size_t(bytes)));
    if (!pointer) throw std::bad_alloc();
    return std::unique_ptr<char, Free>(pointer);
  }

  int64_t load_valid(const Pixels& pixels) {
    if (!has_labels() || args.mask.data || args.binary()) fill(valid, count, T(1));
    fill(valid + count, padded - count, T(0));
    if (args.mask.data) {
      const auto* data = static_cast<const uint8_t*>(args.mask.data);
      load_row(data + pixels.image * args.mask.image_stride, runs(args.mask, pixels), valid);
    }
    if (!has_labels()) {
      all_valid = count_valid(valid, padded) == padded;
      return -1;
    }
    load_codes(args, pixels.image, runs(args.labels, pixels), code);
    fill(code + count, padded - count, kIgnored);
    const int32_t none = int32_t(classes);
    const int valid_count =
        args.mask.data || args.binary()
            ? place_labels(code, int32_t(args.binary()), none, valid, row, padded)
            : place_labels(code, none, valid, row, padded);
    all_valid = valid_count == padded;
    find_regions(row, one_label, padded);
    // A masked pixel may hold any label. Of the others the first that is no class is reported.
    int64_t bad = -1;
    for (int p = count - 1; !all_valid && p >= 0; --p)
      if (code[p] == kOutOfRange && masked_in(pixels.image, pixels.first + p))
        bad = pixels.first + p;
    load_target(pixels);
    return bad;
  }

  bool masked_in(int64_t image, int64_t pixel) const {
    if (!args.mask.data) return true;
    Run one;
    const Runs where(args.mask, args.spatial, {image, pixel, 1}, &one);
    return static_cast<const uint8_t*>(
        args.mask.data)[image * args.mask.image_stride + one.offset];
  }

  void load_target(const Pixels& pixels) {
    const T epsilon = T(args.label_smoothing), labels = T(args.label_count());
    smooth = epsilon != 0;
    const bool boundary_only = smooth && args.boundary_size > 0;
    if (boundary_only) {
      boundary_pixels(args, pixels, code, lowest, highest, boundary);
      fill(boundary + count, padded - count, int32_t(0));
    }
    for (int block = 0; block < padded / kBlock; ++block)
      mixed[block] = boundary_only ? any(boundary + block * kBlock, kBlock) : smooth;
    smooth = any(mixed, padded / kBlock);
    on = smooth ? smooth_on : valid;
    off = smooth ? smooth_off : zero;
    if (smooth)
      target_row(boundary_only ? boundary : nullptr, epsilon, labels, valid, on, off, padded);
  }

  void clear_invalid(T* tile) {
    for (int64_t c = 0; c < classes; ++c) keep_valid(tile + c * stride, valid, padded);
  }

  // What the label's place keeps is `nothing`, the logit of probability 0.
  void take_label(T nothing) {
    fill(x + classes * stride, padded, nothing);
    fill(here, classes + 1, uint8_t(0));
    for_labels(
        row, one_label, padded,
        [&](int32_t c, int p) __attribute__((always_inline)) {
          T* place = x + c * stride + p;
          copy(place, kBlock, label_x + p);
          fill(place, kBlock, nothing);
          here[c] = 1;
        },
        [&](int32_t c, int p) __attribute__((always_inline)) {
          T& place = x[c * stride + p];
          label_x[p] = place;
          place = nothing;
          here[c] = 1;
        });
  }

  // Independent labels 0 and 1: smoothed as two classes; one that is ignored counts nowhere, as
  // does x = y = 0.
  int64_t smooth_integers(int64_t first) {
    const T ignore = T(args.ignore_index);
    const LabelTarget<T> target = label_target(T(args.label_smoothing), T(2));
    int64_t bad = -1;
    for (int p = count - 1; p >= 0; --p) {
      if (valid[p] == 0) continue;
      bool counts = false;
      for (int64_t c = classes - 1; c >= 0; --c) {
        T& label = y[c * stride + p];
        if (label == ignore) {
          label = 0;
          x[c * stride + p] = 0;
          continue;
        }
        counts = true;
        const int64_t position = c * args.pixels + first + p;
        if (label != 0 && label != 1) bad = bad < 0 ? position : std::min(bad, position);
        label = label == 1 ? target.on : target.off;
      }
      valid[p] = counts ? T(1) : T(0);
    }
    return bad;
  }
};

// Calls body(chunk, pixels of a tile, pixels of the next one) for the tiles of chunks [begin, end).
template <typename Body>
inline void for_tiles(const Arguments& args, int64_t begin, int64_t end, Body body) {
  const int64_t chunk_pixels = args.tiles_per_chunk * args.tile_pixels;
  const auto tile_at = [&](int64_t chunk, int64_t tile) {
    const int64_t chunk_first = chunk % args.chunks_per_image * chunk_pixels;
    const int64_t last = std::min(args.pixels, chunk_first + chunk_pixels);
    const int64_t first = chunk_first + tile * args.tile_pixels;
    if (chunk >= end || first >= last) return Pixels();
    return Pixels{chunk / args.chunks_per_image, first,
                  int(std::min(args.tile_pixels, last - first))};
  };
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    Pixels pixels = tile_at(chunk, 0);
    for (int64_t tile = 1; pixels.image >= 0; ++tile) {
      const Pixels next = tile_at(chunk, tile);
      body(chunk, pixels, next.image >= 0 ? next : tile_at(chunk + 1, 0));
      pixels = next;
    }
  }
}

}  // namespace jml::JML_ISA
