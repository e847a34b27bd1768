// Vectors of LANES floats, by the instructions that this file is compiled for.
//
// A lane holds one output, and no operation mixes lanes. So the number of lanes decides how many
// outputs are computed at a time, and nothing else: every output is the same chain of operations.

#ifndef SAMEBITS_VECTORS_H
#define SAMEBITS_VECTORS_H

#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
#define REGISTERS 24  // for sums, of 32
#elif defined(__AVX2__)
#define LANES 8
#define REGISTERS 12  // of 16
#elif defined(__aarch64__)
#define LANES 4
#define REGISTERS 24  // of 32
#else
#define LANES 4
#define REGISTERS 12
#endif

#define PADDING 16  // the channels of a pixel take a multiple of so many floats in memory

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * LANES)));  // of a comparison: 0 or -1

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

INLINE Vector load(const float *from) { return *(const Vector *)from; }
INLINE void store(float *to, Vector x) { *(Vector *)to = x; }

INLINE Vector broadcast(float x) {
    Vector result;
    for (int lane = 0; lane < LANES; lane++) result[lane] = x;
    return result;
}

// a * b + c, rounded once.
INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__has_builtin) && __has_builtin(__builtin_elementwise_fma)
    return __builtin_elementwise_fma(a, b, c);
#else
    Vector result;
    for (int lane = 0; lane < LANES; lane++)
        result[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return result;
#endif
}

INLINE long vectors_of(long floats) { return (floats + LANES - 1) / LANES; }
INLINE long smaller(long a, long b) { return a < b ? a : b; }

// Round to nearest, and keep denormal numbers, until the end of the function that says IEEE_754.
#if defined(__x86_64__)
INLINE unsigned long ieee_754(void) {
    unsigned mode;
    __asm__ volatile("stmxcsr %0" : "=m"(mode));
    const unsigned standard = 0x1F80;
    __asm__ volatile("ldmxcsr %0" : : "m"(standard));
    return mode;
}
INLINE void restore(unsigned long *saved) {
    const unsigned mode = (unsigned)*saved;
    __asm__ volatile("ldmxcsr %0" : : "m"(mode));
}
#elif defined(__aarch64__)
INLINE unsigned long ieee_754(void) {
    unsigned long mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(0ul));
    return mode;
}
INLINE void restore(unsigned long *saved) { __asm__ volatile("msr fpcr, %0" : : "r"(*saved)); }
#else
#error "samebits has kernels for x86-64 and 64-bit ARM"
#endif
#define IEEE_754 \
    unsigned long saved __attribute__((cleanup(restore), unused)) = ieee_754()

#endif
