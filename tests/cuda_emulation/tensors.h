// Tensors of a problem, in memory of exactly the size that their strides reach: the number behind
// the last one is nobody's.
#pragma once

#include <memory>

#include "harness.h"
#include "problem.h"

using jml::DType;

struct Shape {
  int64_t images, classes, spatial[3];

  int64_t pixels() const { return spatial[0] * spatial[1] * spatial[2]; }
};

//     planes         (N, C, D, H, W), contiguous
//     channels_last  (N, D, H, W, C), contiguous
//     cropped        planes whose rows are 3 numbers longer, and 2 more
enum class Layout { planes, channels_last, cropped };

class Tensor {
 public:
  Tensor(const Shape& shape, bool has_classes, DType dtype, Layout layout) : shape_(shape) {
    if (!has_classes) shape_.classes = 1;
    view_.given = true;
    view_.dtype = dtype;
    const bool is_last = layout == Layout::channels_last;
    int64_t stride = is_last ? shape_.classes : 1;
    for (int d = 2; d >= 0; --d) {
      view_.spatial_stride[d] = stride;
      stride *= shape_.spatial[d];
      if (layout == Layout::cropped) stride += view_.spatial_stride[d] * (d == 2 ? 3 : 2);
    }
    if (has_classes) view_.class_stride = is_last ? 1 : stride;
    view_.image_stride = is_last ? stride : stride * shape_.classes;
    const int64_t last = at(shape_.images - 1, shape_.classes - 1, shape_.pixels() - 1);
    bytes_.assign(size_t((last + 1) * size()), 0xff);
  }

  // Bits of `dtype`: NaN, or -1, where nothing is set.
  void set(int64_t n, int64_t c, int64_t pixel, double value) {
    void* const to = &bytes_[size_t(at(n, c, pixel) * size())];
    switch (view_.dtype) {
      case DType::f16: return put(to, jml::to_half(float(value)));
      case DType::bf16: return put(to, jml::to_bfloat(float(value)));
      case DType::f32: return put(to, float(value));
      case DType::f64: return put(to, value);
      default: {
        const int64_t bits = int64_t(value);  // the first bytes are the number in any size
        memcpy(to, &bits, size_t(size()));
      }
    }
  }

  // Of a floating tensor.
  double get(int64_t n, int64_t c, int64_t pixel) const {
    const void* const from = &bytes_[size_t(at(n, c, pixel) * size())];
    switch (view_.dtype) {
      case DType::f16: return to_float(take<jml::half_bits>(from));
      case DType::bf16: return to_float(take<jml::bfloat_bits>(from));
      case DType::f32: return take<float>(from);
      default: return take<double>(from);
    }
  }

  jml::TensorView on_device() {
    device_ = std::make_unique<Numbers<unsigned char>>(bytes_);
    view_.data = device_->data();
    return view_;
  }
  void from_device() { bytes_ = device_->to_host(); }

  // Whether what lies between the tensor's numbers is as it was.
  bool gaps_are_untouched() const {
    std::vector<bool> is_gap(bytes_.size() / size_t(size()), true);
    for (int64_t n = 0; n < shape_.images; ++n)
      for (int64_t c = 0; c < shape_.classes; ++c)
        for (int64_t pixel = 0; pixel < shape_.pixels(); ++pixel) is_gap[at(n, c, pixel)] = false;
    for (size_t i = 0; i < bytes_.size(); ++i)
      if (is_gap[i / size_t(size())] && bytes_[i] != 0xff) return false;
    return true;
  }

  const std::vector<unsigned char>& bytes() const { return bytes_; }

 private:
  int64_t size() const { return view_.element_bytes(); }
  int64_t at(int64_t n, int64_t c, int64_t pixel) const {
    const int64_t width = shape_.spatial[2], height = shape_.spatial[1];
    return n * view_.image_stride + c * view_.class_stride +
           pixel / width / height * view_.spatial_stride[0] +
           pixel / width % height * view_.spatial_stride[1] +
           pixel % width * view_.spatial_stride[2];
  }
  template <typename T>
  static void put(void* to, T value) {
    memcpy(to, &value, sizeof(T));
  }
  template <typename T>
  static T take(const void* from) {
    T value;
    memcpy(&value, from, sizeof(T));
    return value;
  }

  Shape shape_;
  jml::TensorView view_;
  std::vector<unsigned char> bytes_;
  std::unique_ptr<Numbers<unsigned char>> device_;
};
