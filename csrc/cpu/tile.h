// A tile: some pixels of an image with all their classes, and a number of rows, of one number for
// each pixel. What is in them, tile_load.h says.
#pragma once

#include <cstdlib>
#include <memory>

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
  bool smooth = false;   // whether `off` is not 0 somewhere
  int64_t elements = 0;  // of an integer dense target: how many count

  // classes x stride. x and y have one row more, of pixels with no label.
  T *x, *y;
  T* pull;  // of a cross-entropy that is not part of the softmax' own, see cross_entropy.h
  // Numbers of classes: weights of the labels' cross-entropy, 0 for no label, and of the dense one.
  T *label_weights, *dense_weights;
  T weight_sum = 0;  // of the labels'

  T* valid;                           // 1 or 0
  T *on, *off;                        // target at the label and elsewhere, 0 where not valid
  T *smooth_on, *smooth_off;          // where they are when labels are smoothed; else valid and 0
  T* zero;
  T *scale, *dot;                     // probability = x * scale; dot = sum of probability * g
  T *label_x, *label_miss, *label_y;  // at the label: probability, that of all others, dense target
  T *label_tp, *label_fp, *label_fn, *label_xy, *label_gradient, *label_pull;
  T *weight, *label_weight;           // the label's weight: a row, or `valid`
  T *lead, *rest, *spread, *share, *gaps;  // of logarithms, see cross_entropy.h
  T* dense_share;                     // sum of w y over classes: a row, or `valid`
  T *label_entropy, *dense_entropy, *teacher_entropy;
  T *other_scale, *other_rest;        // of another softmax than that of the logits
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
      for (T** rows : {&dense.tile, &dense.ahead})
        take(*rows, args.has_dense() ? (classes + 1) * stride : 0);
      take(pull, args.separate_entropy() ? classes * stride : 0);
      for (T** weights : {&label_weights, &dense_weights}) take(*weights, classes + 1);
      for (T** rows :
           {&valid, &smooth_on, &smooth_off, &zero, &scale, &dot, &label_x, &label_miss, &label_y,
            &label_tp, &label_fp, &label_fn, &label_xy, &label_gradient, &label_pull, &weight, &lead, &rest, &spread, &share, &gaps, &label_entropy, &dense_entropy,
            &teacher_entropy, &other_scale, &other_rest})
        take(*rows, pixels);
      for (int32_t** rows : {&code, &row, &lowest, &highest, &boundary}) take(*rows, pixels + halo);
      take(run, pixels);
      for (uint8_t** flags : {&mixed, &one_label}) take(*flags, pixels);
      take(here, classes + 1);
      if (!allocated) memory = allocate_bytes(used);
    }
    fill(zero, pixels, T(0));
    on = label_weight = dense_share = valid;
    off = zero;
    set_weights();
  }

  // Valid until the next call: they share their room.
  Runs runs(const TensorView& view, const Pixels& pixels) const {
    return Runs(view, args.spatial, pixels, run);
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

  // Those that are given are the first target's.
  void set_weights() {
    for (int64_t c = 0; c < classes; ++c) {
      const T given = args.ce_class_weights ? T(args.ce_class_weights[c]) : T(1);
      label_weights[c] = given;
      dense_weights[c] = args.has_labels() ? T(1) : given;
      weight_sum += given;
    }
    label_weights[classes] = dense_weights[classes] = 0;
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
