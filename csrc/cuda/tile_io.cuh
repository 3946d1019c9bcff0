// How a tile gets its numbers, and gives them back: everything that knows how tensors lie in
// memory. A thread holds K classes x V pixels of a tile, as F (float or double).
//
// Logits are converted when they are read: dtype and layout end here. A tile has V x 32 pixels;
// lane l has the pixels l V, l V + 1, ... (rows) or l, l + 32, ... (others).
#pragma once

#include <cuda_fp16.h>

#include <type_traits>

#include "arguments.cuh"
#include "team.cuh"

namespace jml::cuda {

// What a block works on, in one turn: pixels [first, first + V x 32) of an image, as far as there
// are any, and the classes [first_class, first_class + classes) of a warp.
struct TileAt {
  int image = 0;
  int64_t first = 0;
  int first_class = 0, classes = 0;
};

template <int V>
JML_DEVICE int64_t pixel_of(const Arguments& args, const TileAt& at, int v, int lane) {
  return at.first + (args.side_by_side ? lane * V + v : v * kLanes + lane);
}

// ---- positions ----------------------------------------------------------------------------
struct Position {
  int64_t depth, row, column;
};

// A division of 64 bits calls a function, which makes the caller save its registers: numbers below
// 2^52 are divided as double, with the reciprocal, and set right.
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
  Position at;
  int64_t line;
  divide(pixel, args.spatial[2], args.reciprocal_width, line, at.column);
  divide(line, args.spatial[1], args.reciprocal_height, at.depth, at.row);
  return at;
}

JML_DEVICE int64_t offset_of(const TensorView& view, const Position& at) {
  return at.depth * view.spatial_stride[0] + at.row * view.spatial_stride[1] +
         at.column * view.spatial_stride[2];
}

JML_DEVICE int64_t offset_of(const Arguments& args, const TensorView& view,
                             const Reading& reading, int64_t pixel) {
  return reading.is_run ? pixel * reading.step : offset_of(view, locate(args, pixel));
}

// ---- numbers ------------------------------------------------------------------------------
// n numbers side by side, in registers as memory has them.
template <typename S, int n>
struct alignas(n * sizeof(S) < 16 ? n * sizeof(S) : 16) Pack {
  static constexpr int kWords = n * sizeof(S) / 4;
  uint32_t words[kWords];
};

// One load, of 16 bytes or less; more where there are more.
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

// Half types come two to a register, and are taken apart and put together by the conversion.
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

// Calls visit(S{}) for the type of a floating dtype: of logits, which F follows, or any.
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
// A slot of shared memory, for 32 pixels with all their classes. The run starts as far behind a
// multiple of 16 bytes as it does in global memory. Pixels whose size is a multiple of 16 bytes are
// padded by 16 bytes where lanes that read one class of 32 pixels would else meet in few of the 32
// banks.
struct StagedRun {
  unsigned char *slot, *global;
  int64_t bytes;
  int pixel_bytes, padding;

  JML_DEVICE int head() const {
    return int(reinterpret_cast<uintptr_t>(global) % 16);
  }
  JML_DEVICE unsigned char* pixel(int lane) const {
    return slot + head() + lane * (pixel_bytes + padding);
  }

  // Calls whole(shared, global) for the run's aligned 16 bytes and rest(shared, global) for the 2
  // byte pieces at its ends: the work of the team's threads.
  template <typename Whole, typename Rest>
  JML_DEVICE void each(const Team& team, Whole whole, Rest rest) const {
    unsigned char* const start = global - head();
    if (padding) {
      const int across = pixel_bytes / 16;
      const int row_step = team.threads() / across, step = team.threads() % across;
      int row = team.rank() / across, column = team.rank() % across;
      for (int i = team.rank(); i < int(bytes) / 16; i += team.threads()) {
        whole(slot + row * (pixel_bytes + padding) + column * 16, start + i * 16);
        row += row_step;
        column += step;
        if (column >= across) {
          column -= across;
          ++row;
        }
      }
      return;
    }
    const int end = head() + int(bytes), first = (head() + 15) / 16, last = end / 16;
    for (int i = first + team.rank(); i < last; i += team.threads())
      whole(slot + i * 16, start + i * 16);
    const int ahead = first * 16 < end ? first * 16 : end;
    const int tail = last * 16 > ahead ? last * 16 : ahead;
    const int pieces = (ahead - head() + end - tail) / 2;
    for (int i = team.rank(); i < pieces; i += team.threads()) {
      const int byte = head() + 2 * i < ahead ? head() + 2 * i : tail + 2 * i - (ahead - head());
      rest(slot + byte, start + byte);
    }
  }

  JML_DEVICE void copy_in(const Team& team) const {
    each(
        team, [](unsigned char* to, unsigned char* from) { copy_async16(to, from); },
        [](unsigned char* to, unsigned char* from) {
          *reinterpret_cast<uint16_t*>(to) = *reinterpret_cast<const uint16_t*>(from);
        });
  }
  JML_DEVICE void copy_out(const Team& team) const {
    each(
        team,
        [](unsigned char* from, unsigned char* to) {
          *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
        },
        [](unsigned char* from, unsigned char* to) {
          *reinterpret_cast<uint16_t*>(to) = *reinterpret_cast<const uint16_t*>(from);
        });
  }
};

// The v-th 32 pixels of a tile.
JML_DEVICE StagedRun staged_run(const Arguments& args, const TensorView& view,
                                const Reading& reading, const TileAt& at, int v,
                                unsigned char* memory) {
  const int64_t first = at.first + v * kLanes, left = args.pixels - first;
  const int bytes = int(view.element_bytes()), pixel_bytes = bytes * int(args.classes);
  return {memory + v * args.staged_bytes,
          static_cast<unsigned char*>(view.data) + at.image * view.image_stride * bytes +
              first * pixel_bytes,
          (left < 0 ? 0 : left < kLanes ? left : kLanes) * pixel_bytes, pixel_bytes,
          reading.padding};
}

// ---- in and out -----------------------------------------------------------------------------
// Of a tile that lies within the image.
template <typename S, int K, int V, typename F>
JML_DEVICE void fill_rows(F (&tile)[K][V], const TensorView& view, const TileAt& at,
                          const Team& team) {
  const S* from = static_cast<const S*>(view.data) + at.image * view.image_stride +
                  at.first_class * view.class_stride + at.first + team.lane * V;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    Pack<S, V> pack{};
    if (k < at.classes) pack = load_pack<S, V>(from);
    unpack(pack, tile[k]);
    from += view.class_stride;
  }
}

template <typename S, int K, int V, typename F>
JML_DEVICE void store_rows(const F (&tile)[K][V], const TensorView& view, const TileAt& at,
                           const Team& team) {
  S* to = static_cast<S*>(view.data) + at.image * view.image_stride +
          at.first_class * view.class_stride + at.first + team.lane * V;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k < at.classes) store_pack<S, V>(to, packed<S>(tile[k]));
    to += view.class_stride;
  }
}

template <int V>
JML_DEVICE bool is_whole(const Arguments& args, const TileAt& at) {
  return at.first + V * kLanes <= args.pixels;
}

// Where the v-th pixel of a thread has its first class, for a tensor that is not staged.
template <int V>
JML_DEVICE int64_t strided_offset(const Arguments& args, const TensorView& view,
                                  const Reading& reading, const TileAt& at, int v, int lane) {
  const int64_t pixel = pixel_of<V>(args, at, v, lane);
  return at.image * view.image_stride + at.first_class * view.class_stride +
         (pixel < args.pixels ? offset_of(args, view, reading, pixel) : 0);
}

// Number by number, from where the tensor lies or from where it is staged.
template <bool kLogits, bool kGeneral, int K, int V, typename F>
JML_DEVICE void fill_across(F (&tile)[K][V], const Arguments& args, const TensorView& view,
                            const Reading& reading, const TileAt& at, const Team& team,
                            unsigned char* memory) {
  const bool is_staged = !kGeneral && reading.reach == Reach::staged;
  if (is_staged) {
    team.sync();  // whoever still reads what was staged before
#pragma unroll 1
    for (int v = 0; v < V; ++v) staged_run(args, view, reading, at, v, memory).copy_in(team);
    wait_copies();
    team.sync();
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const bool inside = pixel_of<V>(args, at, v, team.lane) < args.pixels;
    with_type<F, kLogits>(view.dtype, [&](auto type) {
      using S = decltype(type);
      // A step is added, not multiplied: the compiler would keep the products in registers.
      const auto fill = [&](const S* from, auto step) {
#pragma unroll
        for (int k = 0; k < K; ++k) {
          S value{};
          if (inside && k < at.classes) value = *from;
          tile[k][v] = convert<F>(value);
          from += step;
        }
      };
      if (is_staged) {
        const S* const from = reinterpret_cast<const S*>(
                                  staged_run(args, view, reading, at, v, memory).pixel(team.lane)) +
                              at.first_class;
        fill(from, 1);
      } else {
        const S* const from = static_cast<const S*>(view.data) +
                              strided_offset<V>(args, view, reading, at, v, team.lane);
        fill(from, view.class_stride);
      }
    });
  }
}

template <bool kGeneral, int K, int V, typename F>
JML_DEVICE void store_across(const F (&tile)[K][V], const Arguments& args, const TensorView& view,
                             const Reading& reading, const TileAt& at, const Team& team,
                             unsigned char* memory) {
  const bool is_staged = !kGeneral && reading.reach == Reach::staged;
  if (is_staged) team.sync();  // whoever still reads what was staged before
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const bool inside = pixel_of<V>(args, at, v, team.lane) < args.pixels;
    with_type<F, true>(view.dtype, [&](auto type) {
      using S = decltype(type);
      const auto store = [&](S* to, auto step) {
#pragma unroll
        for (int k = 0; k < K; ++k) {
          if (inside && k < at.classes) *to = convert_back<S>(tile[k][v]);
          to += step;
        }
      };
      if (is_staged) {
        S* const to = reinterpret_cast<S*>(
                          staged_run(args, view, reading, at, v, memory).pixel(team.lane)) +
                      at.first_class;
        store(to, 1);
      } else {
        S* const to = static_cast<S*>(view.data) +
                      strided_offset<V>(args, view, reading, at, v, team.lane);
        store(to, view.class_stride);
      }
    });
  }
  if (is_staged) {
    team.sync();
#pragma unroll 1
    for (int v = 0; v < V; ++v) staged_run(args, view, reading, at, v, memory).copy_out(team);
  }
}

// The one way in: classes x pixels of a floating tensor, 0 where the tile reaches beyond it. General
// kernels go number by number, whatever the layout.
template <bool kLogits, bool kGeneral, int K, int V, typename F>
JML_DEVICE void fill_tile(F (&tile)[K][V], const Arguments& args, const TensorView& view,
                          const Reading& reading, const TileAt& at, const Team& team,
                          unsigned char* memory) {
  if constexpr (!kGeneral && V > 1) {
    if (reading.reach == Reach::rows && is_whole<V>(args, at)) {
      with_type<F, kLogits>(view.dtype, [&](auto type) {
        fill_rows<decltype(type)>(tile, view, at, team);
      });
      return;
    }
  }
  fill_across<kLogits, kGeneral>(tile, args, view, reading, at, team, memory);
}

// The one way out.
template <bool kGeneral, int K, int V, typename F>
JML_DEVICE void store_tile(const F (&tile)[K][V], const Arguments& args, const TensorView& view,
                           const Reading& reading, const TileAt& at, const Team& team,
                           unsigned char* memory) {
  if constexpr (!kGeneral && V > 1) {
    if (reading.reach == Reach::rows && is_whole<V>(args, at)) {
      with_type<F, true>(view.dtype, [&](auto type) {
        store_rows<decltype(type)>(tile, view, at, team);
      });
      return;
    }
  }
  store_across<kGeneral>(tile, args, view, reading, at, team, memory);
}

}  // namespace jml::cuda
