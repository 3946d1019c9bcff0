// What run_kernels.cu runs: small problems, which together reach every kernel in every way that it
// has of reading and writing. test_sanitizers.py says which those are.
#pragma once

#include "tensors.h"

using jml::Activation;

enum class Dense { none, probabilities, teacher, bits };

struct Case {
  DType dtype;
  Shape shape;
  Layout layout;

  Activation activation = Activation::softmax;
  bool has_labels = false, has_mask = false, has_weights = false;
  bool in_place = false;          // the gradient lies over the logits
  bool every_column = false;      // else those that a fast kernel takes
  bool has_wrong_value = false;   // a label that is no class, or no probability: the loss is NaN
  bool has_ignored = false;       // probabilities of which some are ignored
  bool has_one_part = false;      // a block has all tiles of an image, else a third
  // Of tallies: no bins; no shared memory for counters of classes.
  bool counts_pairs_alone = false, has_little_memory = false;
  int64_t bins = 10;
  DType label_dtype = DType::i64, dense_dtype = DType::f32;
  Dense dense = Dense::none;
  double smoothing = 0, student_temperature = 1;
  int64_t boundary = 0;
  // With upsample: the sizes of the logits, and of a teacher's.
  bool upsample = false, align_corners = false;
  int64_t low[3] = {1, 1, 1}, teacher_low[3] = {1, 1, 1};

  Case(DType dtype, int64_t classes, Shape pixels, Layout layout)
      : dtype(dtype), shape(pixels), layout(layout) {
    shape.classes = classes;
  }

  Case with_labels(DType of) const {
    Case c = *this;
    c.has_labels = true;
    c.label_dtype = of;
    return c;
  }
  Case smooth(double by, int64_t size = 0) const {
    Case c = *this;
    c.smoothing = by;
    c.boundary = size;
    return c;
  }
  Case with_dense(Dense kind, DType of) const {
    Case c = *this;
    c.dense = kind;
    c.dense_dtype = of;
    return c;
  }
  Case as(Activation other) const {
    Case c = *this;
    c.activation = other;
    return c;
  }
  Case student(double temperature) const {
    Case c = *this;
    c.student_temperature = temperature;
    return c;
  }
  // The logits have lower sizes, a teacher's the full one, or lower ones too.
  Case from(Shape lower) const {
    Case c = *this;
    c.upsample = true;
    std::copy(lower.spatial, lower.spatial + 3, c.low);
    std::copy(shape.spatial, shape.spatial + 3, c.teacher_low);
    return c;
  }
  Case teacher_from(Shape lower) const {
    Case c = *this;
    std::copy(lower.spatial, lower.spatial + 3, c.teacher_low);
    return c;
  }
  // Of the logits and their gradient, and of the dense target.
  Shape logits_shape() const { return upsample ? Shape{shape.images, shape.classes, {low[0], low[1], low[2]}} : shape; }
  Shape dense_shape() const {
    const bool is_lower = upsample && dense == Dense::teacher;
    return is_lower ? Shape{shape.images, shape.classes,
                            {teacher_low[0], teacher_low[1], teacher_low[2]}}
                    : shape;
  }
  Case in_bins(int64_t count) const {
    Case c = *this;
    c.bins = count;
    return c;
  }
  Case but(bool Case::*option) const {
    Case c = *this;
    c.*option = true;
    return c;
  }
};

inline Shape image(int64_t count, int64_t height, int64_t width, int64_t depth = 1) {
  return {count, 0, {depth, height, width}};
}

inline Shape sized(int64_t height, int64_t width, int64_t depth = 1) {
  return {0, 0, {depth, height, width}};
}

inline std::vector<Case> cases() {
  constexpr auto f16 = DType::f16, bf16 = DType::bf16, f32 = DType::f32, f64 = DType::f64;
  constexpr auto u8 = DType::u8, i8 = DType::i8, u16 = DType::u16, i16 = DType::i16,
                 u32 = DType::u32, i32 = DType::i32, u64 = DType::u64, i64 = DType::i64;
  constexpr auto planes = Layout::planes, last = Layout::channels_last, cropped = Layout::cropped;
  constexpr auto probabilities = Dense::probabilities, teacher = Dense::teacher,
                 bits = Dense::bits;
  constexpr auto sigmoid = Activation::sigmoid, none = Activation::none;
  const auto mask = &Case::has_mask, weights = &Case::has_weights, in_place = &Case::in_place,
             every = &Case::every_column, wrong = &Case::has_wrong_value,
             ignored = &Case::has_ignored, long_ = &Case::has_one_part,
             corners = &Case::align_corners;
  // Tiles have 32 to 256 pixels (csrc/cuda/configs.cuh), and images mostly more than one tile.
  return {
      // ---- hard labels; first what meets most of the barriers ----
      Case(f32, 75, image(1, 11, 13), last).with_labels(u8).but(in_place),
      Case(f16, 8, image(2, 18, 32), planes).with_labels(i64),
      Case(bf16, 2, image(2, 17, 19), planes).with_labels(u8).but(mask),
      Case(f32, 5, image(2, 13, 23), last).with_labels(i32).but(weights),
      Case(f32, 8, image(2, 15, 20), last).with_labels(i16).but(in_place),
      Case(f32, 3, image(2, 16, 17), cropped).with_labels(i64).but(in_place).but(mask),
      Case(f16, 1, image(1, 3, 11), planes).with_labels(u16),
      Case(f32, 19, image(2, 10, 28), planes).with_labels(i64).but(weights),
      Case(f16, 21, image(1, 12, 25), planes).with_labels(u8).but(in_place),
      Case(bf16, 21, image(2, 9, 15), planes).with_labels(i8).but(mask),
      Case(f32, 19, image(2, 11, 13), last).with_labels(u32),
      Case(f16, 16, image(1, 11, 13), last).with_labels(u64).but(mask),
      Case(f32, 45, image(1, 12, 12), planes).with_labels(i32).but(mask),
      Case(f16, 70, image(1, 7, 20), planes).with_labels(i32).but(mask),
      Case(bf16, 24, image(1, 11, 13), last).with_labels(i64),
      Case(bf16, 32, image(1, 11, 13), last).with_labels(i64).but(mask),
      Case(f32, 80, image(1, 11, 13), last).with_labels(i16).but(weights),
      Case(bf16, 100, image(1, 11, 13), cropped).with_labels(i64).but(in_place),
      Case(f16, 264, image(1, 5, 29), last).with_labels(i16),
      Case(f32, 9, image(2, 45, 50), planes).with_labels(i64).but(long_),
      Case(f32, 30, image(1, 9, 15), planes).with_labels(u8).but(weights).but(wrong),
      // ---- smoothed labels ----
      Case(f16, 8, image(2, 18, 32), planes).with_labels(i64).smooth(0.1, 3),
      Case(f32, 4, image(2, 7, 13, 3), cropped).with_labels(u8).smooth(0.2, 3).but(mask),
      Case(bf16, 6, image(2, 15, 19), last).with_labels(i32).smooth(0.1).but(weights),
      Case(f32, 8, image(1, 15, 19), last).with_labels(i32).smooth(0.1).but(mask),
      Case(f32, 9, image(1, 6, 8, 4), planes).with_labels(i8).smooth(0.3, 5),
      Case(f32, 40, image(2, 10, 14), planes).with_labels(i16).smooth(0.1, 5).but(weights),
      Case(f32, 23, image(1, 11, 13), planes).with_labels(u16).smooth(0.1).but(mask),
      Case(f16, 21, image(1, 11, 13), cropped).with_labels(i64).smooth(0.1).but(mask),
      Case(f32, 9, image(1, 11, 13), last).with_labels(i64).smooth(0.1).but(mask),
      Case(f16, 16, image(1, 11, 13), last).with_labels(u8).smooth(0.1).but(weights),
      Case(f16, 25, image(1, 11, 13), last).with_labels(u8).smooth(0.1),
      Case(f16, 32, image(1, 11, 13), last).with_labels(u32).smooth(0.1, 3).but(in_place),
      Case(f16, 141, image(1, 11, 13), last).with_labels(i64).smooth(0.1, 7),
      Case(f32, 72, image(1, 11, 13), last).with_labels(i64).smooth(0.1).but(in_place),
      Case(bf16, 65, image(1, 7, 20), planes).with_labels(i64).smooth(0.1).but(mask),
      Case(f32, 67, image(1, 7, 11), planes).with_labels(u8).smooth(0.1),
      Case(bf16, 30, image(1, 9, 15), cropped).with_labels(i64).smooth(0.1).but(wrong),
      // ---- a dense target ----
      Case(f32, 5, image(2, 10, 14), planes).with_dense(probabilities, f32),
      Case(f16, 7, image(2, 11, 13), last).with_dense(teacher, f32).but(mask),
      Case(f32, 3, image(1, 11, 13), cropped)
          .with_dense(probabilities, f64)
          .with_labels(i64)
          .but(in_place),
      Case(f32, 4, image(1, 10, 14), planes)
          .with_dense(probabilities, f64)
          .with_labels(u8)
          .smooth(0.1, 3)
          .but(weights),
      Case(f32, 8, image(1, 11, 13), last).with_dense(teacher, f32).but(in_place),
      Case(f32, 19, image(2, 10, 14), planes).with_dense(probabilities, f16).but(weights),
      Case(bf16, 48, image(1, 7, 13), last)
          .with_dense(teacher, bf16)
          .with_labels(i32)
          .smooth(0.1, 3)
          .but(mask),
      Case(f32, 45, image(1, 8, 11), planes)
          .with_dense(teacher, f32)
          .with_labels(u8)
          .but(in_place),
      Case(f16, 11, image(1, 7, 13), last).with_dense(probabilities, f32),
      Case(f32, 16, image(1, 7, 13), last).with_dense(teacher, f16).but(in_place),
      Case(bf16, 23, image(1, 7, 11), cropped).with_dense(probabilities, f32).but(mask),
      Case(f16, 12, image(1, 7, 13), planes).with_dense(probabilities, f32),
      Case(f32, 21, image(1, 7, 13), last).with_dense(probabilities, f32).but(in_place),
      Case(bf16, 64, image(1, 7, 11), last).with_dense(probabilities, f32),
      Case(f32, 61, image(1, 7, 11), planes).with_dense(teacher, f32).with_labels(i64),
      Case(f32, 150, image(1, 7, 11), last).with_dense(probabilities, f32).but(mask),
      Case(bf16, 6, image(1, 9, 13), cropped).with_dense(probabilities, f32).but(mask),
      Case(f32, 45, image(1, 8, 11), planes).with_dense(probabilities, f32),
      Case(f32, 48, image(1, 7, 11), last).with_dense(probabilities, f16).but(in_place),
      Case(bf16, 70, image(1, 8, 10), planes).with_dense(probabilities, f32).but(in_place),
      Case(f16, 180, image(1, 5, 9), cropped).with_dense(probabilities, f32).but(weights),
      Case(f32, 184, image(1, 5, 9), last).with_dense(teacher, f32).but(mask),
      Case(f32, 190, image(1, 5, 9), last).with_dense(probabilities, f32).but(ignored),
      // ---- the same beside labels ----
      Case(f32, 5, image(1, 9, 13), last).with_dense(probabilities, f16).with_labels(u8),
      Case(f32, 8, image(1, 9, 13), last)
          .with_dense(teacher, f32)
          .with_labels(i64)
          .but(in_place),
      Case(f16, 11, image(1, 7, 13), last).with_dense(probabilities, f32).with_labels(i16),
      Case(bf16, 12, image(1, 7, 13), cropped)
          .with_dense(teacher, f32)
          .with_labels(i64)
          .but(mask),
      Case(f16, 16, image(1, 7, 13), last).with_dense(teacher, f16).with_labels(u8),
      Case(f32, 19, image(1, 8, 10), planes)
          .with_dense(teacher, f32)
          .with_labels(i64)
          .smooth(0.1, 3)
          .but(in_place),
      Case(f32, 25, image(1, 7, 13), last).with_dense(teacher, f32).with_labels(i32),
      Case(f32, 64, image(1, 7, 9), last)
          .with_dense(teacher, f32)
          .with_labels(i64)
          .but(in_place),
      Case(f32, 65, image(1, 7, 9), last).with_dense(probabilities, f32).with_labels(i64),
      // ---- a dense target with ignored elements, or wrong ones ----
      Case(f32, 6, image(2, 10, 14), planes).with_dense(probabilities, f16).but(ignored),
      Case(f16, 19, image(1, 7, 13), last).with_dense(probabilities, f32).but(ignored).but(mask),
      Case(f32, 62, image(1, 7, 11), planes).with_dense(probabilities, bf16).but(ignored),
      Case(f32, 20, image(1, 7, 11), planes).with_dense(probabilities, f32).but(wrong),
      Case(f16, 63, image(1, 7, 11), last).with_dense(probabilities, f32).but(wrong),
      Case(f16, 21, image(1, 7, 11), planes)
          .with_dense(probabilities, f32)
          .with_labels(i64)
          .but(wrong),
      // ---- anything else, in float ----
      Case(f32, 3, image(2, 7, 13), planes).with_labels(i64).but(every).but(mask),
      Case(f32, 5, image(2, 7, 13), last).with_labels(i64).but(every).but(weights),
      Case(f16, 19, image(1, 7, 13), planes)
          .with_dense(teacher, f16)
          .student(2)
          .but(mask),
      Case(f32, 265, image(1, 3, 13), planes)
          .with_dense(probabilities, f32)
          .with_labels(i64)
          .smooth(0.1, 3),
      Case(bf16, 50, image(1, 5, 15), last).with_labels(i16).but(every).but(in_place).but(mask),
      Case(f32, 50, image(1, 5, 15), cropped)
          .with_dense(teacher, bf16)
          .but(every)
          .but(in_place),
      Case(bf16, 4, image(2, 7, 13), planes).as(sigmoid).with_labels(i32).smooth(0.1, 3),
      Case(f32, 1, image(2, 7, 13), planes).as(sigmoid).with_labels(u8).smooth(0.1),
      Case(f16, 6, image(2, 7, 13), cropped)
          .as(sigmoid)
          .with_dense(bits, u8)
          .smooth(0.1)
          .but(mask)
          .but(in_place),
      Case(f32, 60, image(1, 5, 15), last).as(sigmoid).with_dense(bits, i64),
      Case(f32, 30, image(1, 5, 15), planes)
          .as(sigmoid)
          .with_dense(teacher, f32)
          .with_labels(i64)
          .but(weights),
      Case(f32, 7, image(1, 7, 13), last).as(none).with_labels(i64).but(weights),
      Case(bf16, 1, image(2, 7, 13), planes).as(none).with_labels(i8).but(mask),
      Case(f32, 50, image(1, 5, 15), planes)
          .as(none)
          .with_dense(probabilities, f64)
          .with_labels(i16)
          .but(in_place),
      Case(f32, 1, image(1, 7, 13), planes).as(none).with_dense(bits, i16),
      Case(f32, 40, image(1, 5, 13), planes)
          .with_dense(probabilities, f32)
          .but(ignored)
          .but(every),
      Case(f32, 6, image(1, 5, 13), last).as(none).with_dense(probabilities, f32).but(ignored),
      Case(f32, 5, image(1, 5, 13), planes).as(none).with_labels(i64).but(wrong),
      // ---- and in double ----
      Case(f64, 4, image(2, 5, 13), last).with_labels(i64).but(weights),
      Case(f64, 5, image(2, 5, 13), planes).with_labels(i64).smooth(0.1, 3),
      Case(f64, 55, image(1, 3, 15), last)
          .with_dense(teacher, f64)
          .with_labels(u8)
          .student(2)
          .but(every),
      Case(f64, 3, image(2, 5, 13), last).as(sigmoid).with_dense(probabilities, f64),
      Case(f64, 9, image(1, 5, 13), planes).as(sigmoid).with_dense(bits, u8).but(mask),
      Case(f64, 52, image(1, 3, 13), last).as(sigmoid).with_dense(teacher, f32).but(in_place),
      Case(f64, 2, image(1, 5, 13), planes).as(none).with_dense(probabilities, f64),
      Case(f64, 6, image(1, 5, 13), cropped).as(none).with_labels(i32).but(in_place),
      Case(f64, 49, image(1, 3, 13), planes).as(none).with_labels(u16).but(mask),
      // ---- logits of lower resolution: rows of 32 to 128 pixels are cut, patches have neighbours ----
      Case(f32, 5, image(2, 9, 150), planes).with_labels(i64).from(sized(3, 38)),
      Case(f16, 8, image(1, 5, 9, 4), last).with_labels(u8).smooth(0.1, 3).from(sized(3, 4, 2)),
      Case(f16, 2, image(1, 33, 40), last).with_labels(u8).but(mask).from(sized(2, 10)),
      Case(f32, 6, image(1, 5, 9, 4), planes).with_labels(i64).from(sized(3, 4, 2)),
      Case(f32, 19, image(1, 3, 150), planes).with_labels(i64).but(weights).from(sized(3, 1)),
      Case(f32, 19, image(1, 12, 96), planes).with_labels(u8).but(mask).from(sized(3, 24)),
      Case(bf16, 20, image(1, 13, 21), last).with_labels(i64).smooth(0.1).from(sized(4, 6)),
      Case(bf16, 20, image(1, 13, 21), last).with_labels(i64).smooth(0.1, 19).from(sized(4, 6)),
      Case(f32, 6, image(2, 19, 150), planes).with_labels(i64).smooth(0.1, 3).from(sized(5, 38)),
      Case(f32, 19, image(1, 12, 96), planes)
          .with_labels(u8)
          .smooth(0.2, 7)
          .but(mask)
          .but(weights)
          .from(sized(3, 24)),
      Case(f32, 50, image(1, 8, 40), cropped)
          .with_labels(i32)
          .but(weights)
          .but(corners)
          .from(sized(2, 10)),
      Case(f32, 100, image(1, 7, 20), last).with_labels(i64).smooth(0.1, 3).from(sized(2, 5)),
      Case(f32, 100, image(1, 7, 20), last).with_labels(i64).smooth(0.1, 19).from(sized(2, 5)),
      Case(f32, 3, image(2, 7, 70), planes).with_labels(i64).but(every).but(mask).from(sized(2, 18)),
      Case(f16, 19, image(1, 7, 13), last)
          .with_dense(teacher, f32)
          .student(2)
          .from(sized(3, 4))
          .teacher_from(sized(5, 7)),
      Case(f32, 261, image(1, 3, 13), planes)
          .with_dense(probabilities, f32)
          .with_labels(i64)
          .smooth(0.1, 3)
          .from(sized(2, 4)),
      Case(bf16, 4, image(2, 5, 70, 4), planes)
          .as(sigmoid)
          .with_labels(i32)
          .smooth(0.1, 3)
          .from(sized(2, 18, 3)),
      Case(f32, 30, image(1, 5, 15), last)
          .as(sigmoid)
          .with_dense(bits, u8)
          .but(corners)
          .from(sized(3, 5)),
      Case(f32, 60, image(1, 5, 15), cropped)
          .as(sigmoid)
          .with_dense(teacher, f32)
          .with_labels(i64)
          .from(sized(5, 2))
          .teacher_from(sized(1, 1)),
      Case(f32, 4, image(1, 7, 13), last).as(none).with_labels(i64).from(sized(3, 4)),
      Case(f32, 30, image(1, 5, 15), planes)
          .as(none)
          .with_dense(probabilities, f64)
          .from(sized(2, 5)),
      Case(f32, 50, image(1, 5, 15), planes).as(none).with_labels(i16).from(sized(2, 5)),
      Case(f64, 4, image(2, 5, 70), last).with_labels(i64).but(weights).from(sized(2, 18)),
      Case(f64, 5, image(2, 5, 13), planes).with_labels(i64).smooth(0.1, 3).from(sized(2, 4)),
      Case(f64, 55, image(1, 3, 15), last)
          .with_dense(teacher, f64)
          .with_labels(u8)
          .but(every)
          .from(sized(1, 4))
          .teacher_from(sized(3, 5)),
      Case(f64, 3, image(2, 5, 13), last)
          .as(sigmoid)
          .with_dense(probabilities, f64)
          .from(sized(2, 4)),
      Case(f64, 9, image(1, 5, 13), planes).as(sigmoid).with_dense(bits, u8).from(sized(2, 4)),
      Case(f64, 52, image(1, 3, 13), last)
          .as(sigmoid)
          .with_dense(teacher, f32)
          .from(sized(2, 4))
          .teacher_from(sized(3, 4)),
      Case(f64, 2, image(1, 5, 13), planes)
          .as(none)
          .with_dense(probabilities, f64)
          .from(sized(2, 4)),
      Case(f64, 6, image(1, 5, 13), cropped).as(none).with_labels(i32).from(sized(2, 4)),
      Case(f64, 49, image(1, 3, 13), planes).as(none).with_labels(u16).from(sized(2, 4)),
  };
}

// What metrics count (csrc/cuda/tally.cuh); `boundary` is the window of boundaries.
inline std::vector<Case> tally_cases() {
  constexpr auto f16 = DType::f16, bf16 = DType::bf16, f32 = DType::f32, f64 = DType::f64;
  constexpr auto u8 = DType::u8, i8 = DType::i8, i16 = DType::i16, u64 = DType::u64,
                 i32 = DType::i32, i64 = DType::i64;
  constexpr auto planes = Layout::planes, last = Layout::channels_last, cropped = Layout::cropped;
  const auto mask = &Case::has_mask, long_ = &Case::has_one_part,
             little = &Case::has_little_memory, pairs = &Case::counts_pairs_alone, corners = &Case::align_corners;
  return {
      Case(f16, 8, image(2, 18, 32), planes).with_labels(i64).smooth(0, 3),
      Case(f32, 5, image(2, 13, 23), last).with_labels(u8).smooth(0, 5).but(mask),
      Case(f32, 8, image(2, 15, 20), last).with_labels(i16).but(pairs),
      Case(bf16, 3, image(2, 16, 17), cropped).with_labels(i8).smooth(0, 3).in_bins(1),
      Case(f32, 4, image(1, 5, 6, 4), planes).with_labels(u8).smooth(0, 3).but(mask).but(long_),
      Case(f32, 19, image(2, 10, 28), planes).with_labels(i64).smooth(0, 3).but(long_),
      Case(bf16, 21, image(1, 9, 15), cropped).with_labels(u64).smooth(0, 99).in_bins(15),
      Case(f32, 19, image(1, 11, 13), last).with_labels(i32).but(mask).in_bins(400),
      Case(f16, 16, image(1, 11, 13), last).with_labels(i64).smooth(0, 3),
      Case(f32, 45, image(1, 12, 12), planes).with_labels(i32).smooth(0, 3).but(mask),
      Case(f32, 45, image(1, 7, 11), cropped).with_labels(i32),
      Case(bf16, 65, image(1, 7, 11), last).with_labels(i64).smooth(0, 3),
      Case(f32, 64, image(1, 7, 11), last).with_labels(i64).smooth(0, 3),
      Case(f16, 70, image(1, 8, 10), planes).with_labels(i64).smooth(0, 3).but(mask),
      Case(f32, 150, image(1, 7, 11), last).with_labels(u8).smooth(0, 3).in_bins(200),
      Case(f16, 264, image(1, 5, 13), last).with_labels(i16).smooth(0, 3),
      Case(f32, 72, image(1, 7, 11), last).with_labels(i64),
      Case(bf16, 70, image(1, 5, 13), cropped).with_labels(i16),
      Case(f32, 267, image(1, 3, 13), last).with_labels(i64).smooth(0, 3),
      Case(f32, 300, image(1, 3, 13), planes).with_labels(i64).smooth(0, 3).but(little),
      Case(f64, 4, image(2, 5, 13), last).with_labels(i64).smooth(0, 3),
      Case(f64, 20, image(1, 3, 13), planes).with_labels(u8).but(mask),
      Case(f64, 55, image(1, 3, 15), planes).with_labels(i64).in_bins(3),
      // ---- logits of lower resolution ----
      Case(f32, 5, image(2, 9, 150), planes).with_labels(i64).smooth(0, 3).from(sized(3, 38)),
      Case(f16, 8, image(1, 5, 9, 4), last).with_labels(u8).smooth(0, 3).from(sized(3, 4, 2)),
      Case(f32, 19, image(1, 12, 96), planes).with_labels(u8).but(mask).from(sized(3, 24)),
      Case(bf16, 50, image(1, 8, 40), cropped).with_labels(i32).but(corners).from(sized(2, 10)),
      Case(f32, 261, image(1, 3, 13), planes).with_labels(i64).smooth(0, 3).from(sized(2, 4)),
      Case(f64, 5, image(1, 5, 70), last).with_labels(i64).from(sized(2, 18)),
  };
}
