// A tile: some pixels of an image with all their classes, and what is known of each pixel.
//
// Shapes. C classes. P pixels (tiles.h), of which a tile at the end of a chunk has fewer: `count`,
// and up to `padded`, a multiple of kRowStep, rows hold padding that is not valid. B = P / kBlock
// blocks of pixels. A row has one number for each of the P pixels.
//
//     x, y      (C + 1) x stride   the logits z, then what times `scale` is the probability p;
//                                  the dense target
//     LabelState                   integer labels, the target that they make, the label's own terms
//     SoftmaxState                 what a softmax leaves of each pixel
//     EntropyState                 class weights, cross-entropies
//
// Rows of the tile have one target, target_elsewhere, for all classes: the label's class is taken
// out of them (tile_load.h), and has one number for each pixel: z_label, p_label, ... Row C of x
// and y stands for pixels whose label has no row, so that loops over labels need no case of their
// own.
//
// Names of a pixel's numbers:
//
//     z_max, label_gap       the largest logit; z_max - z of the label
//     exp_sum                sum of e^(z - z_max) over the classes
//     exp_sum_others         the same without the label
//     exp_sum_minus_1        exp_sum less 1, taken without cancellation
//     p_label, p_not_label   probability of the label, and of all other classes
//     target_at_label        what a (smoothed) label is at its class, ...
//     target_elsewhere       ... and at all others
//     g, dot                 gradient of the loss by p; sum over classes of p g
//     w, target_mass         class weights of a cross-entropy; sum over classes of w y
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "tile_source.h"

namespace jml::JML_ISA {

// One piece of memory that is cut into arrays, each of which begins on a line of its own. Arrays
// are asked for twice: once to count the bytes, and after `reserve` to be handed out.
class Memory {
 public:
  template <typename Element>
  void allocate(Element*& array, int64_t size) {
    if (bytes) array = reinterpret_cast<Element*>(bytes.get() + used);
    used += (size * int64_t(sizeof(Element)) + 63) / 64 * 64;
  }

  template <typename Element>
  void allocate_each(std::initializer_list<Element**> arrays, int64_t size) {
    for (Element** array : arrays) allocate(*array, size);
  }

  void reserve() {
    bytes.reset(static_cast<char*>(std::aligned_alloc(64, size_t(used))));
    if (!bytes) throw std::bad_alloc();
    used = 0;
  }

 private:
  struct Free {
    void operator()(char* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<char, Free> bytes;
  int64_t used = 0;
};

// Integer labels. A window of the boundary reaches `halo` pixels beyond the tile.
template <typename T>
struct LabelState {
  int32_t* code;               // P + halo  the label, kIgnored or kOutOfRange
  int32_t* row;                // P         the row of x in which its class lies, C if none does
  int32_t* on_boundary;        // P         with boundary smoothing: 1 where it applies, else 0
  int32_t *lowest, *highest;   // P + halo  room for find_boundary
  uint8_t* one_label;          // B         whether the pixels of a block have one row
  uint8_t* has_smoothed;       // B         whether target_elsewhere is not 0 somewhere in a block
  uint8_t* class_present;      // C + 1     whether a pixel has this row
  bool any_smoothed = false;   //           whether a block has_smoothed

  // The target: the smoothed rows, or of hard labels `valid` and `zero`. All are 0 where a pixel is
  // not valid.
  const T *target_at_label, *target_elsewhere;     // P
  T *smoothed_at_label, *smoothed_elsewhere, *zero;  // P

  T* z_label;                      // P  the label's logit
  T *p_label, *p_not_label;        // P  p_not_label is that of a softmax
  T* dense_at_label;               // P  the dense target of the label's class
  T *tp, *fp, *fn, *intersection;  // P  forward: terms of the overlap in the label's place
  T *g, *dz, *minus_ce_gradient;   // P  backward: by the label's p, by its logit; cross_entropy.h

  void allocate(Memory& memory, int64_t classes, int64_t pixels, int64_t halo) {
    memory.allocate_each<int32_t>({&code, &lowest, &highest}, pixels + halo);
    memory.allocate_each<int32_t>({&row, &on_boundary}, pixels);
    memory.allocate_each<uint8_t>({&one_label, &has_smoothed}, pixels / kBlock);
    memory.allocate(class_present, classes + 1);
    memory.allocate_each<T>({&smoothed_at_label, &smoothed_elsewhere, &zero, &z_label, &p_label,
                             &p_not_label, &dense_at_label, &tp, &fp, &fn, &intersection, &g, &dz,
                             &minus_ce_gradient},
                            pixels);
  }
};

// What a softmax leaves of each pixel.
template <typename T>
struct SoftmaxState {
  T* scale;            // P  valid / exp_sum: p = x * scale; of other activations `valid`
  T* label_gap;        // P
  T* exp_sum_minus_1;  // P
  T* weighted_gap;     // P  sum of w_c y_c (z_max - z_c)
  T* target_mass;      // P  sum of w_c y_c
  T* dot;              // P  backward: sum of p_c g_c

  void allocate(Memory& memory, int64_t pixels) {
    memory.allocate_each<T>(
        {&scale, &label_gap, &exp_sum_minus_1, &weighted_gap, &target_mass, &dot}, pixels);
  }
};

// Cross-entropies.
template <typename T>
struct EntropyState {
  T *label_class_weights, *dense_class_weights;  // C + 1  w against each target, 0 for no class
  T label_weight_sum = 0;                        //        sum of w against labels
  const T* label_weight;                         // P      w of the label: the row, or `valid`
  T* label_weight_row;                           // P
  T* weighted_label_gap;                         // P      sum of w_c (z_c - z_label)
  const T* target_mass;                          // P      of the dense target: a row, or `valid`
  T *of_labels, *of_dense, *of_teacher;          // P      forward: the cross-entropies, an entropy
  // Backward: of cross-entropies that are not of the logits' own softmax (cross_entropy.h). At
  // another temperature it is made in place, from the softmax there; the forward needs that softmax
  // too.
  T* minus_ce_gradient;                          // C x stride

  void allocate(Memory& memory, const Arguments& args, int64_t stride) {
    const int64_t classes = args.classes, pixels = args.tile_pixels;
    memory.allocate_each<T>({&label_class_weights, &dense_class_weights}, classes + 1);
    memory.allocate_each<T>(
        {&label_weight_row, &weighted_label_gap, &of_labels, &of_dense, &of_teacher}, pixels);
    memory.allocate(minus_ce_gradient, args.separate_entropy() ? classes * stride : 0);
  }

  // The weights that are given are those of the first target.
  void set_weights(const Arguments& args) {
    const int64_t classes = args.classes;
    for (int64_t c = 0; c < classes; ++c) {
      const T given = args.ce_class_weights ? T(args.ce_class_weights[c]) : T(1);
      label_class_weights[c] = given;
      dense_class_weights[c] = args.has_labels() ? T(1) : given;
      label_weight_sum += given;
    }
    label_class_weights[classes] = dense_class_weights[classes] = 0;
  }
};

// All that a thread needs to work on a tile.
template <typename T>
struct Tile {
  const Arguments& args;
  const int64_t classes;
  const int64_t stride;  // between rows of x and y: a line more than the pixels, so that rows a
                         // power of two long do not fight for the same cache sets
  int count = 0;         // pixels of this tile
  int padded = 0;        // the same, up to a multiple of kRowStep
  bool all_valid = true;
  // Of a dense target: whether elements are ignored one by one, and how many count then (values.h).
  bool has_ignored = false;
  int64_t elements = 0;
  Faults faults;  // forward: of the chunk

  TileSource<T> logits, dense;
  T *x = nullptr, *y = nullptr;  // (C + 1) x stride
  T* valid;             // P  1 or 0
  T* p_not;             // P  backward of a sigmoid: 1 - p of one class
  T* counted_elements;  // P  room for find_ignored
  LabelState<T> label;
  SoftmaxState<T> softmax;
  SoftmaxState<T> other_softmax;  // of a teacher, or of the logits at another temperature
  EntropyState<T> entropy;

  explicit Tile(const Arguments& args)
      : args(args),
        classes(args.classes),
        stride(args.tile_pixels + 64 / int(sizeof(T))),
        logits(args.logits, args.logits_upsampling, args, stride),
        dense(args.dense, args.dense_upsampling, args, stride) {
    allocate();
    memory.reserve();
    allocate();
    fill(label.zero, args.tile_pixels, T(0));
    label.target_at_label = entropy.label_weight = entropy.target_mass = valid;
    label.target_elsewhere = label.zero;
    entropy.set_weights(args);
  }

  T* x_row(int64_t c) const { return x + c * stride; }
  T* y_row(int64_t c) const { return y + c * stride; }
  T* minus_ce_gradient_row(int64_t c) const { return entropy.minus_ce_gradient + c * stride; }

 private:
  Memory memory;

  void allocate() {
    const int64_t pixels = args.tile_pixels, tile = (classes + 1) * stride;
    memory.allocate(logits.tile, tile);
    memory.allocate(logits.ahead, logits.has_prefetch() ? tile : 0);
    memory.allocate(dense.tile, args.has_dense() ? tile : 0);
    memory.allocate(dense.ahead, args.has_dense() && dense.has_prefetch() ? tile : 0);
    memory.allocate_each<T>({&valid, &p_not, &counted_elements}, pixels);
    label.allocate(memory, classes, pixels, args.boundary_size);
    softmax.allocate(memory, pixels);
    other_softmax.allocate(memory, pixels);
    entropy.allocate(memory, args, stride);
  }
};

}  // namespace jml::JML_ISA
