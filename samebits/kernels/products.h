// Sums of products, in tiles of outputs that stay in registers.
//
// Each output is one chain of fused multiply-adds, in the order in which the loops are written.

#ifndef SAMEBITS_PRODUCTS_H
#define SAMEBITS_PRODUCTS_H

#include "vectors.h"

// A window of pixels of `channels` floats, whose steps in memory are in floats.
typedef struct {
    long rows, columns, channels, row_step, pixel_step;
} Window;

// out[i][:] = sum over the window that begins at in + i * in_step of its floats times the rows of
// `weights`, one row for each float of the window, for `count` outputs of `vectors` vectors.
void products(const float *in, long in_step, Window window, const float *weights,
              long weights_step, long count, long vectors, float *out, long out_step);

// sums[i][:] += sum over rows and pixels of a[row][pixel][i] * b[row][pixel][:], for i < count.
typedef struct {
    const float *start;
    long row_step, pixel_step;
} Pixels;
void outer_products(Pixels a, Pixels b, long rows, long width, long count, long vectors,
                    float *sums, long sums_step);

// For each of `rows` rows: out[:] += sum over i < terms of factors[i] * in[offsets[i] + :].
typedef struct {
    long rows, vectors, in_step, out_step;  // the steps are from row to row
} Runs;
void add_scaled(long terms, const float *factors, const int32_t *offsets, const float *in,
                Runs runs, float *out);

#endif
