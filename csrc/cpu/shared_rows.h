// The low rows of a gradient that two chunks share: each chunk leaves its part here, and the parts
// are added when all chunks are done, those of earlier chunks first.
#pragma once

#include "arguments.h"

namespace jml {

template <typename T>
class SharedRows {
 public:
  explicit SharedRows(const Arguments& args)
      : args(args), upsampling(*args.logits_upsampling), parts(static_cast<T*>(args.shared_rows)) {}

  // Numbers of a part, and of all parts: for each chunk those of its first and its last row, each
  // planes x classes x columns.
  static int64_t row_size(const Arguments& args) {
    const Upsampling& upsampling = *args.logits_upsampling;
    return upsampling.low(0) * args.classes * upsampling.low(2);
  }
  static int64_t size(const Arguments& args) {
    return 2 * args.images * args.chunks_per_image * row_size(args);
  }

  // Where a chunk leaves a low row, classes x columns; null if no other chunk shares it.
  T* place(int64_t chunk, int64_t z, int64_t y) const {
    const int64_t k = chunk % args.chunks_per_image;
    const bool is_first = k > 0 && y == args.rows.first_low(k);
    const bool is_last = k + 1 < args.chunks_per_image && y == args.rows.first_low(k + 1);
    if (!is_first && !is_last) return nullptr;
    return part(chunk, is_last, z);
  }

  // Writes the sums to the gradient.
  void add_up() const {
    const int64_t low[3] = {upsampling.low(0), upsampling.low(1), upsampling.low(2)};
    visit_dtype(args.grad, [&](auto* data) {
      using Target = std::remove_pointer_t<decltype(data)>;
      const int64_t* stride = args.grad.spatial_stride;
      for (int64_t chunk = 0; chunk < args.images * args.chunks_per_image; ++chunk) {
        const int64_t k = chunk % args.chunks_per_image;
        if (k == 0) continue;
        for (int64_t z = 0; z < low[0]; ++z) {
          const T *before = part(chunk - 1, true, z), *own = part(chunk, false, z);
          auto* to = data + chunk / args.chunks_per_image * args.grad.image_stride +
                     z * stride[0] + args.rows.first_low(k) * stride[1];
          for (int64_t c = 0; c < args.classes; ++c)
            for (int64_t x = 0; x < low[2]; ++x)
              to[c * args.grad.class_stride + x * stride[2]] = convert_back<Target>(
                  before[c * low[2] + x] + own[c * low[2] + x]);
        }
      }
    });
  }

 private:
  const Arguments& args;
  const Upsampling& upsampling;
  T* const parts;

  T* part(int64_t chunk, bool is_last, int64_t z) const {
    return parts + (2 * chunk + is_last) * row_size(args) +
           z * args.classes * upsampling.low(2);
  }
};

}  // namespace jml
