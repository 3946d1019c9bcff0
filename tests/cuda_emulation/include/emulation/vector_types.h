// CUDA's vectors, with their alignment, and which types the load and store functions take.
#pragma once

#include <type_traits>

// The types that __ldg and its like exist for. Not bool.
template <typename T>
struct jml_cuda_loadable
    : std::bool_constant<std::is_arithmetic_v<T> && !std::is_same_v<T, bool> &&
                         !std::is_same_v<T, long double>> {};

#define JML_VECTOR2(name, type, alignment)                                   \
  struct alignas(alignment) name {                                           \
    type x, y;                                                               \
  };                                                                         \
  inline name make_##name(type x, type y) { return {x, y}; }                 \
  template <>                                                                \
  struct jml_cuda_loadable<name> : std::true_type {}
#define JML_VECTOR3(name, type)                                              \
  struct name {                                                              \
    type x, y, z;                                                            \
  };                                                                         \
  inline name make_##name(type x, type y, type z) { return {x, y, z}; }
#define JML_VECTOR4(name, type, alignment)                                   \
  struct alignas(alignment) name {                                           \
    type x, y, z, w;                                                         \
  };                                                                         \
  inline name make_##name(type x, type y, type z, type w) { return {x, y, z, w}; } \
  template <>                                                                \
  struct jml_cuda_loadable<name> : std::true_type {}

JML_VECTOR2(char2, signed char, 2);
JML_VECTOR4(char4, signed char, 4);
JML_VECTOR2(uchar2, unsigned char, 2);
JML_VECTOR4(uchar4, unsigned char, 4);
JML_VECTOR2(short2, short, 4);
JML_VECTOR4(short4, short, 8);
JML_VECTOR2(ushort2, unsigned short, 4);
JML_VECTOR4(ushort4, unsigned short, 8);
JML_VECTOR2(int2, int, 8);
JML_VECTOR3(int3, int)
JML_VECTOR4(int4, int, 16);
JML_VECTOR2(uint2, unsigned int, 8);
JML_VECTOR3(uint3, unsigned int)
JML_VECTOR4(uint4, unsigned int, 16);
JML_VECTOR2(longlong2, long long, 16);
JML_VECTOR2(ulonglong2, unsigned long long, 16);
JML_VECTOR2(float2, float, 8);
JML_VECTOR3(float3, float)
JML_VECTOR4(float4, float, 16);
JML_VECTOR2(double2, double, 16);

#undef JML_VECTOR2
#undef JML_VECTOR3
#undef JML_VECTOR4

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
