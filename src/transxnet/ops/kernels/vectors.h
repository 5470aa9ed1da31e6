/* Vectors of float32 values, and reading and writing them in float32 or bfloat16. */

#ifndef TRANSXNET_VECTORS_H
#define TRANSXNET_VECTORS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float unaligned_vec __attribute__((vector_size(LANES * 4), aligned(4))); /* in memory only: slow as a value */
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef uint32_t uvec __attribute__((vector_size(LANES * 4)));
typedef uint16_t hvec __attribute__((vector_size(LANES * 2)));

INLINE vec load(const float *p) { return *(const unaligned_vec *)p; }

INLINE void store(float *p, vec values) { *(unaligned_vec *)p = values; }

/* Read `lanes` values from index i; the other lanes are zero. */
INLINE vec load_values(const void *data, int64_t i, int lanes, int bf16) {
    if (bf16) {
        hvec bits = {0};
        if (lanes == LANES)
            memcpy(&bits, (const uint16_t *)data + i, sizeof bits);
        else
            memcpy(&bits, (const uint16_t *)data + i, lanes * sizeof(uint16_t));
        return (vec)(__builtin_convertvector(bits, uvec) << 16);
    }
    vec values = {0};
    if (lanes == LANES)
        memcpy(&values, (const float *)data + i, sizeof values);
    else
        memcpy(&values, (const float *)data + i, lanes * sizeof(float));
    return values;
}

/* Write the first `lanes` values from index i. bfloat16 is rounded to nearest, ties to even; NaN stays NaN. */
INLINE void store_values(void *data, int64_t i, vec values, int lanes, int bf16) {
    if (bf16) {
        uvec bits = (uvec)values, is_nan = (uvec)(values != values);
        bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        hvec half = __builtin_convertvector((bits & ~is_nan) | (is_nan & 0x7fc0), hvec);
        if (lanes == LANES)
            memcpy((uint16_t *)data + i, &half, sizeof half);
        else
            memcpy((uint16_t *)data + i, &half, lanes * sizeof(uint16_t));
    } else if (lanes == LANES)
        memcpy((float *)data + i, &values, sizeof values);
    else
        memcpy((float *)data + i, &values, lanes * sizeof(float));
}

static inline int64_t rounded(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

static inline float *allocate(int64_t count) { return aligned_alloc(64, rounded(count * sizeof(float), 64)); }

#endif
