// How a tile gets its numbers, and gives them back. Everything that knows how tensors lie in memory
// is here. A thread holds K classes x V pixels of a tile, as F (float or double).
//
// Logits are converted when they are read, so that no other file knows their dtype or layout. A
// tile has V x 32 pixels. Lane l holds the pixels l V, l V + 1, ... where a thread's pixels lie
// side by side, and l, l + 32, ... elsewhere.
#pragma once

#include <cuda_fp16.h>

#include <type_traits>

#include "arguments.cuh"
#include "team.cuh"

namespace jml::cuda {

// Where a tile lies: a block works on the pixels [first_pixel, first_pixel + V x 32) of an image,
// as far as there are any, and a warp of it on the classes [first_class, first_class + classes).
// With boxes (upsampling.cuh) there are `pixels` of them, which lie in one row.
struct TileRange {
  int image = 0;
  int64_t first_pixel = 0;
  int pixels = 0;
  int first_class = 0, classes = 0;
};

// The v-th pixel of a lane, counted from the first of the tile.
template <class C>
JML_DEVICE int pixel_in_tile(const Arguments& args, int v, int lane) {
  return !C::kHasBox && args.side_by_side ? lane * C::V + v : v * kLanes + lane;
}

// The same, counted from the first of the image; args.pixels or more if there is none.
template <class C>
JML_DEVICE int64_t pixel_of(const Arguments& args, const TileRange& range, int v, int lane) {
  const int i = pixel_in_tile<C>(args, v, lane);
  if (C::kHasBox && i >= range.pixels) return args.pixels;
  return range.first_pixel + i;
}

// ---- positions ----------------------------------------------------------------------------
struct Position {
  int64_t depth, row, column;
};

// number = quotient * by + remainder, for numbers below 2^52: it multiplies with the reciprocal, as
// double, and sets the result right. A division of 64-bit integers would call a function, which
// makes the caller save its registers.
JML_DEVICE void divide(int64_t number, int64_t by, double reciprocal, int64_t& quotient,
                       int64_t& remainder) {
  quotient = int64_t(double(number) * reciprocal);
  remainder = number - quotient * by;
  if (remainder < 0) {
    remainder += by;
    --quotient;
  } else if (remainder >= by) {
    remainder -= by;
    ++quotient;
  }
}

JML_DEVICE Position locate(const Arguments& args, int64_t pixel) {
  Position position;
  int64_t line;
  divide(pixel, args.spatial[2], args.reciprocal_width, line, position.column);
  position.depth = 0;
  position.row = line;
  if (args.spatial[0] > 1)
    divide(line, args.spatial[1], args.reciprocal_height, position.depth, position.row);
  return position;
}

// How far a pixel lies behind the first one of its image and class, in numbers.
JML_DEVICE int64_t offset_of(const TensorView& view, const Position& position) {
  return position.depth * view.spatial_stride[0] + position.row * view.spatial_stride[1] +
         position.column * view.spatial_stride[2];
}

JML_DEVICE int64_t offset_of(const Arguments& args, const TensorView& view, const Access& access,
                             int64_t pixel) {
  return access.is_segment ? pixel * access.pixel_stride : offset_of(view, locate(args, pixel));
}

// ---- numbers ------------------------------------------------------------------------------
// n numbers that lie side by side, held in registers with the bits that memory has.
template <typename S, int n>
struct alignas(n * sizeof(S) < 16 ? n * sizeof(S) : 16) Pack {
  static constexpr int kWords = n * sizeof(S) / 4;
  uint32_t words[kWords];
};

// Loads 16 bytes at a time, or all where there are fewer.
template <typename S, int n>
JML_DEVICE Pack<S, n> load_pack(const S* from) {
  Pack<S, n> pack;
  constexpr int kWords = Pack<S, n>::kWords;
  if constexpr (kWords % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i) {
      const uint4 four = reinterpret_cast<const uint4*>(from)[i];
      pack.words[4 * i] = four.x;
      pack.words[4 * i + 1] = four.y;
      pack.words[4 * i + 2] = four.z;
      pack.words[4 * i + 3] = four.w;
    }
  } else if constexpr (kWords == 2) {
    const uint2 two = *reinterpret_cast<const uint2*>(from);
    pack.words[0] = two.x;
    pack.words[1] = two.y;
  } else {
    pack.words[0] = *reinterpret_cast<const uint32_t*>(from);
  }
  return pack;
}

template <typename S, int n>
JML_DEVICE void store_pack(S* to, const Pack<S, n>& pack) {
  constexpr int kWords = Pack<S, n>::kWords;
  const auto& w = pack.words;
  if constexpr (kWords % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i)
      store_words(reinterpret_cast<uint4*>(to) + i,
                  make_uint4(w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]));
  } else if constexpr (kWords == 2) {
    store_words(to, make_uint2(w[0], w[1]));
  } else {
    *reinterpret_cast<uint32_t*>(to) = w[0];
  }
}

// Half types come two to a register. Converting them takes the two apart, and puts them together.
template <typename F, typename S, int n>
JML_DEVICE void unpack(const Pack<S, n>& pack, F (&values)[n]) {
#pragma unroll
  for (int i = 0; i < Pack<S, n>::kWords; ++i) {
    const uint32_t word = pack.words[i];
    if constexpr (std::is_same_v<S, half_bits>) {
      const float2 pair = __half22float2(bit_cast<__half2>(word));
      values[2 * i] = F(pair.x);
      values[2 * i + 1] = F(pair.y);
    } else if constexpr (std::is_same_v<S, bfloat_bits>) {  // the upper halves of floats
      values[2 * i] = F(bit_cast<float>(word << 16));
      values[2 * i + 1] = F(bit_cast<float>(word & 0xffff0000u));
    } else if constexpr (std::is_same_v<S, float>) {
      values[i] = F(bit_cast<float>(word));
    } else if (i % 2 == 0) {
      values[i / 2] = F(bit_cast<double>(uint64_t{pack.words[i + 1]} << 32 | word));
    }
  }
}

template <typename S, typename F, int n>
JML_DEVICE Pack<S, n> packed(const F (&values)[n]) {
  Pack<S, n> pack;
#pragma unroll
  for (int i = 0; i < n; ++i) {
    if constexpr (sizeof(S) == 2) {
      if (i % 2 == 0)
        pack.words[i / 2] = uint32_t{convert_back<S>(values[i]).bits} |
                            uint32_t{convert_back<S>(values[i + 1]).bits} << 16;
    } else if constexpr (sizeof(S) == 4) {
      pack.words[i] = bit_cast<uint32_t>(S(values[i]));
    } else {
      const auto bits = bit_cast<uint64_t>(S(values[i]));
      pack.words[2 * i] = uint32_t(bits);
      pack.words[2 * i + 1] = uint32_t(bits >> 32);
    }
  }
  return pack;
}

// Calls visit(S{}) with the type of a floating dtype. Logits are double where F is, and nowhere
// else; other tensors may have any floating dtype.
template <typename F, bool kLogits, typename Visit>
JML_DEVICE void with_type(DType dtype, Visit visit) {
  constexpr bool kDouble = sizeof(F) == sizeof(double);
  if constexpr (kLogits && kDouble) {
    visit(double{});
  } else {
    if (dtype == DType::f16)
      visit(half_bits{});
    else if (dtype == DType::bf16)
      visit(bfloat_bits{});
    else if (kLogits || dtype == DType::f32)
      visit(float{});
    else
      visit(double{});
  }
}

// ---- staging --------------------------------------------------------------------------------
// 32 pixels with all their classes, which are one segment of global memory, and the buffer in
// shared memory that they are staged in. The segment starts as far behind a multiple of 16 bytes in
// the buffer as it does in global memory. Pixels whose size is a multiple of 16 bytes are padded by
// 16 bytes where lanes that read one class of 32 pixels would else meet in few of the 32 banks.
struct StagedSegment {
  unsigned char *buffer, *global;
  int64_t bytes;
  int pixel_bytes, padding;

  // How far the segment starts behind a multiple of 16 bytes.
  JML_DEVICE int head() const {
    return int(reinterpret_cast<uintptr_t>(global) % 16);
  }
  JML_DEVICE unsigned char* pixel(int lane) const {
    return buffer + head() + lane * (pixel_bytes + padding);
  }

  // Calls copy16(shared, global) for the segment's aligned 16 bytes and copy2(shared, global) for
  // the pieces of 2 bytes at its ends. The team's threads share these out.
  template <typename Copy16, typename Copy2>
  JML_DEVICE void for_pieces(const Team& team, Copy16 copy16, Copy2 copy2) const {
    unsigned char* const start = global - head();
    if (padding) {
      const int across = pixel_bytes / 16;
      const int row_step = team.threads() / across, column_step = team.threads() % across;
      int row = team.rank() / across, column = team.rank() % across;
      for (int i = team.rank(); i < int(bytes) / 16; i += team.threads()) {
        copy16(buffer + row * (pixel_bytes + padding) + column * 16, start + i * 16);
        row += row_step;
        column += column_step;
        if (column >= across) {
          column -= across;
          ++row;
        }
      }
      return;
    }
    const int end = head() + int(bytes), first = (head() + 15) / 16, last = end / 16;
    for (int i = first + team.rank(); i < last; i += team.threads())
      copy16(buffer + i * 16, start + i * 16);
    const int ahead = first * 16 < end ? first * 16 : end;
    const int tail = last * 16 > ahead ? last * 16 : ahead;
    const int pieces = (ahead - head() + end - tail) / 2;
    for (int i = team.rank(); i < pieces; i += team.threads()) {
      const int byte = head() + 2 * i < ahead ? head() + 2 * i : tail + 2 * i - (ahead - head());
      copy2(buffer + byte, start + byte);
    }
  }

  JML_DEVICE void copy_in(const Team& team) const {
    for_pieces(
        team, [](unsigned char* to, unsigned char* from) { copy_async16(to, from); },
        [](unsigned char* to, unsigned char* from) {
          *reinterpret_cast<uint16_t*>(to) = *reinterpret_cast<const uint16_t*>(from);
        });
  }
  JML_DEVICE void copy_out(const Team& team) const {
    for_pieces(
        team,
        [](unsigned char* from, unsigned char* to) {
          *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
        },
        [](unsigned char* from, unsigned char* to) {
          *reinterpret_cast<uint16_t*>(to) = *reinterpret_cast<const uint16_t*>(from);
        });
  }
};

// The v-th 32 pixels of a tile; `staging` has room for those of all V.
JML_DEVICE StagedSegment staged_segment(const Arguments& args, const TensorView& view,
                                        const Access& access, const TileRange& range, int v,
                                        unsigned char* staging) {
  const int64_t first = range.first_pixel + v * kLanes, left = args.pixels - first;
  const int bytes = int(view.element_bytes()), pixel_bytes = bytes * int(args.classes);
  return {staging + v * args.staged_bytes,
          static_cast<unsigned char*>(view.data) + range.image * view.image_stride * bytes +
              first * pixel_bytes,
          (left < 0 ? 0 : left < kLanes ? left : kLanes) * pixel_bytes, pixel_bytes,
          access.padding};
}

// ---- in and out -----------------------------------------------------------------------------
// Vector loads and stores, for a tile that lies within the image.
template <typename S, int K, int V, typename F>
JML_DEVICE void fill_rows(F (&tile)[K][V], const TensorView& view, const TileRange& range,
                          const Team& team) {
  const S* from = static_cast<const S*>(view.data) + range.image * view.image_stride +
                  range.first_class * view.class_stride + range.first_pixel + team.lane * V;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    Pack<S, V> pack{};
    if (k < range.classes) pack = load_pack<S, V>(from);
    unpack(pack, tile[k]);
    from += view.class_stride;
  }
}

template <typename S, int K, int V, typename F>
JML_DEVICE void store_rows(const F (&tile)[K][V], const TensorView& view, const TileRange& range,
                           const Team& team) {
  S* to = static_cast<S*>(view.data) + range.image * view.image_stride +
          range.first_class * view.class_stride + range.first_pixel + team.lane * V;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k < range.classes) store_pack<S, V>(to, packed<S>(tile[k]));
    to += view.class_stride;
  }
}

template <int V>
JML_DEVICE bool is_whole(const Arguments& args, const TileRange& range) {
  return range.first_pixel + V * kLanes <= args.pixels;
}

// Where the v-th pixel of a thread has its first class, for a tensor that is not staged.
template <class C>
JML_DEVICE int64_t strided_offset(const Arguments& args, const TensorView& view,
                                  const Access& access, const TileRange& range, int v, int lane) {
  const int64_t pixel = pixel_of<C>(args, range, v, lane);
  return range.image * view.image_stride + range.first_class * view.class_stride +
         (pixel < args.pixels ? offset_of(args, view, access, pixel) : 0);
}

// Goes number by number, through the tensor itself or through what is staged of it.
template <class C, bool kLogits, int K, int V, typename F>
JML_DEVICE void fill_elements(F (&tile)[K][V], const Arguments& args, const TensorView& view,
                              const Access& access, const TileRange& range, const Team& team,
                              unsigned char* staging) {
  const bool is_staged = !C::kOnlyStrided && access.pattern == AccessPattern::staged;
  const auto segment = [&](int v) {
    return staged_segment(args, view, access, range, v, staging);
  };
  if (is_staged) {
    team.sync();  // whoever still reads what was staged before
#pragma unroll 1
    for (int v = 0; v < V; ++v) segment(v).copy_in(team);
    wait_copies();
    team.sync();
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const bool inside = pixel_of<C>(args, range, v, team.lane) < args.pixels;
    with_type<F, kLogits>(view.dtype, [&](auto type) {
      using S = decltype(type);
      // The step is added for each class: the compiler would keep its multiples in registers.
      const auto fill = [&](const S* from, auto step) {
#pragma unroll
        for (int k = 0; k < K; ++k) {
          S value{};
          if (inside && k < range.classes) value = *from;
          tile[k][v] = convert<F>(value);
          from += step;
        }
      };
      if (is_staged) {
        const auto* const pixel = reinterpret_cast<const S*>(segment(v).pixel(team.lane));
        fill(pixel + range.first_class, 1);
      } else {
        const S* const from = static_cast<const S*>(view.data) +
                              strided_offset<C>(args, view, access, range, v, team.lane);
        fill(from, view.class_stride);
      }
    });
  }
}

template <class C, int K, int V, typename F>
JML_DEVICE void store_elements(const F (&tile)[K][V], const Arguments& args,
                               const TensorView& view, const Access& access,
                               const TileRange& range, const Team& team, unsigned char* staging) {
  const bool is_staged = !C::kOnlyStrided && access.pattern == AccessPattern::staged;
  const auto segment = [&](int v) {
    return staged_segment(args, view, access, range, v, staging);
  };
  if (is_staged) team.sync();  // whoever still reads what was staged before
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const bool inside = pixel_of<C>(args, range, v, team.lane) < args.pixels;
    with_type<F, true>(view.dtype, [&](auto type) {
      using S = decltype(type);
      const auto store = [&](S* to, auto step) {
#pragma unroll
        for (int k = 0; k < K; ++k) {
          if (inside && k < range.classes) *to = convert_back<S>(tile[k][v]);
          to += step;
        }
      };
      if (is_staged) {
        auto* const pixel = reinterpret_cast<S*>(segment(v).pixel(team.lane));
        store(pixel + range.first_class, 1);
      } else {
        S* const to = static_cast<S*>(view.data) +
                      strided_offset<C>(args, view, access, range, v, team.lane);
        store(to, view.class_stride);
      }
    });
  }
  if (is_staged) {
    team.sync();
#pragma unroll 1
    for (int v = 0; v < V; ++v) segment(v).copy_out(team);
  }
}

// The one way in: reads classes x pixels of a floating tensor, and 0 where the tile goes beyond it.
// General kernels go number by number, whatever the layout. One of lower resolution has a way in of
// its own (upsampling.cuh).
template <class C, bool kLogits, int K, int V, typename F>
JML_DEVICE void fill_tile(F (&tile)[K][V], const Arguments& args, const TensorView& view,
                          const Access& access, const TileRange& range, const Team& team,
                          unsigned char* staging) {
  if constexpr (!C::kOnlyStrided && V > 1) {
    if (access.pattern == AccessPattern::rows && is_whole<V>(args, range)) {
      with_type<F, kLogits>(view.dtype, [&](auto type) {
        fill_rows<decltype(type)>(tile, view, range, team);
      });
      return;
    }
  }
  fill_elements<C, kLogits>(tile, args, view, access, range, team, staging);
}

// The one way out: writes what lies within the tensor. To lower resolution it is another (patch.cuh).
template <class C, int K, int V, typename F>
JML_DEVICE void store_tile(const F (&tile)[K][V], const Arguments& args, const TensorView& view,
                           const Access& access, const TileRange& range, const Team& team,
                           unsigned char* staging) {
  if constexpr (!C::kOnlyStrided && V > 1) {
    if (access.pattern == AccessPattern::rows && is_whole<V>(args, range)) {
      with_type<F, true>(view.dtype, [&](auto type) {
        store_rows<decltype(type)>(tile, view, range, team);
      });
      return;
    }
  }
  store_elements<C>(tile, args, view, access, range, team, staging);
}

}  // namespace jml::cuda
