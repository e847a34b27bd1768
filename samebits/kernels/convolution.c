// Convolutions, with 2 x 2 max pooling behind them or without.
//
// Images lie in memory as (N, H, W, C): the channels of a pixel side by side, and `in_step` or
// `out_step` floats from pixel to pixel. What is in the floats behind the channels has no effect.

#include "products.h"

typedef struct {
    long in_height, in_width, in_channels, in_step;
    long out_height, out_width, out_channels, out_step;  // before pooling
    long size, stride;                                   // of the kernel, square
    long pooled;                                         // whether 2 x 2 max pooling follows
} Convolution;

static long rows_of(const Convolution *s) { return s->pooled ? s->out_height / 2 : s->out_height; }
static long width_of(const Convolution *s) { return s->pooled ? s->out_width / 2 : s->out_width; }

static Window window_of(const Convolution *s) {
    return (Window){s->size, s->size, s->in_channels, s->in_width * s->in_step, s->in_step};
}

// Keep the largest of each 2 x 2 outputs, the first of equal ones or the last NaN, and which it is.
static void pool(const float *top, const float *bottom, long width, long channels, long step,
                 float *out, uint8_t *winners) {
    for (long x = 0; x < width; x++, top += 2 * step, bottom += 2 * step) {
        for (long c = 0; c < channels; c++) {
            float best = top[c];
            uint8_t winner = 0;
            const float others[] = {top[step + c], bottom[c], bottom[step + c]};
            UNROLL for (int i = 0; i < 3; i++) {
                const int wins = !(others[i] <= best);  // also where either is NaN
                const int stays = best != best && others[i] == others[i];
                winner = wins && !stays ? i + 1 : winner;
                best = wins && !stays ? others[i] : best;
            }
            out[x * step + c] = best;
            winners[x * step + c] = winner;
        }
    }
}

// Convolve images [first, last). weights: (size, size, in_channels, out_step); bias: (out_step) or
// null; scratch: two rows of outputs. Each output: the chain over rows, columns and channels of the
// kernel, then the bias.
void convolve(long first, long last, const Convolution *s, const float *in, const float *weights,
              const float *bias, float *out, uint8_t *winners, float *scratch) {
    IEEE_754;
    const long vectors = vectors_of(s->out_channels), width = width_of(s);
    const long in_row = s->in_width * s->in_step, out_row = width * s->out_step;
    for (long image = first; image < last; image++)
        for (long y = 0; y < rows_of(s); y++) {
            float *const to = out + (image * rows_of(s) + y) * out_row;
            for (long half = 0; half < 1 + s->pooled; half++) {
                const long in_y = ((1 + s->pooled) * y + half) * s->stride;
                const long count = s->pooled ? 2 * width : width;
                float *const row = s->pooled ? scratch + half * count * s->out_step : to;
                products(in + (image * s->in_height + in_y) * in_row, s->stride * s->in_step,
                         window_of(s), weights, s->out_step, count, vectors, row, s->out_step);
                if (bias)
                    for (long x = 0; x < count; x++)
                        for (long c = 0; c < s->out_channels; c++)
                            row[x * s->out_step + c] += bias[c];
            }
            if (s->pooled)
                pool(scratch, scratch + 2 * width * s->out_step, width, s->out_channels,
                     s->out_step, to, winners + (to - out));
        }
}

// The offset in an image of the window that a pooled output comes from.
INLINE long winning_window(const Convolution *s, long y, long x, uint8_t winner) {
    const long top = (2 * y + winner / 2) * s->stride, left = (2 * x + winner % 2) * s->stride;
    return (top * s->in_width + left) * s->in_step;
}

// The gradient of the weights, summed over each of the chunks [first, last) of `chunk` images.
// Three quarters of the gradients before pooling are zero, and are left out. sums: for each chunk
// (out_channels, size, size, in_step) if pooled, else (size, size,
// in_channels, out_step); each a chain over the pixels of an image, and over images. scratch:
// factors and offsets of the outputs of a channel, for each channel.
void weights_gradient(long first, long last, const Convolution *s, long images, long chunk,
                      const float *in, const float *gradient, const uint8_t *winners, float *sums,
                      float *scratch) {
    IEEE_754;
    const long rows = rows_of(s), width = width_of(s), outputs = rows * width;
    const long in_row = s->in_width * s->in_step, out_row = width * s->out_step;
    const long kernel = s->size * s->size *
                        (s->pooled ? s->out_channels * s->in_step : s->in_channels * s->out_step);
    float *const factors = scratch;
    int32_t *const offsets = (int32_t *)(scratch + s->out_channels * outputs);
    for (long i = first * kernel; i < last * kernel; i++) sums[i] = 0;
    for (long part = first; part < last; part++)
        for (long image = part * chunk; image < smaller((part + 1) * chunk, images); image++) {
            float *const of_part = sums + part * kernel;
            const float *const pixels = in + image * s->in_height * in_row;
            const float *const errors = gradient + image * rows * out_row;
            if (!s->pooled) {
                // In dense rows the channels of neighbouring pixels are neighbours in memory, too.
                const long dense = s->in_step == s->in_channels;
                const long columns = dense ? 1 : s->size;
                const long count = dense ? s->size * s->in_channels : s->in_channels;
                for (long y = 0; y < s->size; y++)
                    for (long x = 0; x < columns; x++) {
                        const Pixels a = {pixels + y * in_row + x * s->in_step,
                                          s->stride * in_row, s->stride * s->in_step};
                        const Pixels b = {errors, out_row, s->out_step};
                        outer_products(a, b, rows, width, count, vectors_of(s->out_channels),
                                       of_part + (y * s->size + x) * s->in_channels * s->out_step,
                                       s->out_step);
                    }
                continue;
            }
            const uint8_t *const chosen = winners + image * rows * out_row;
            for (long y = 0; y < rows; y++)
                for (long x = 0; x < width; x++)
                    for (long d = 0; d < s->out_channels; d++) {
                        const long output = y * width + x, at = output * s->out_step + d;
                        factors[d * outputs + output] = errors[at];
                        offsets[d * outputs + output] = winning_window(s, y, x, chosen[at]);
                    }
            const Runs runs = {s->size, vectors_of(s->size * s->in_step), in_row,
                               s->size * s->in_step};
            for (long d = 0; d < s->out_channels; d++)
                add_scaled(outputs, factors + d * outputs, offsets + d * outputs, pixels, runs,
                           of_part + d * s->size * s->size * s->in_step);
        }
}

// The gradient of images [first, last). weights: (out_channels, size, size, in_step) if pooled,
// else (size, size, out_channels, in_step) with rows and columns reversed. Each: a chain over
// outputs, over which of the four pixels was the largest, and over channels if pooled; else over
// rows, columns and channels of the kernel. scratch: factors and offsets of the channels of an
// output, for each of the four, or the gradient with a border of size - 1 zeros.
void images_gradient(long first, long last, const Convolution *s, const float *weights,
                     const float *gradient, const uint8_t *winners, float *out, float *scratch) {
    IEEE_754;
    const long rows = rows_of(s), width = width_of(s), border = s->size - 1;
    const long in_row = s->in_width * s->in_step, out_row = width * s->out_step;
    const long kernel = s->size * s->size * s->in_step;
    const long bordered = (s->in_width + border) * s->out_step;
    float *const factors = scratch;
    int32_t *const offsets = (int32_t *)(scratch + 4 * s->out_channels);
    if (!s->pooled)
        for (long i = 0; i < (s->in_height + border) * bordered; i++) scratch[i] = 0;
    for (long image = first; image < last; image++) {
        float *const to = out + image * s->in_height * in_row;
        const float *const errors = gradient + image * rows * out_row;
        if (!s->pooled) {
            for (long y = 0; y < rows; y++)
                for (long x = 0; x < width; x++)
                    for (long d = 0; d < s->out_channels; d++)
                        scratch[(border + y * s->stride) * bordered +
                                (border + x * s->stride) * s->out_step + d] =
                            errors[y * out_row + x * s->out_step + d];
            for (long y = 0; y < s->in_height; y++) {
                // Rows that are border are left out.
                const long above = y < border ? border - y : 0;
                const long end = smaller(s->size, border + (rows - 1) * s->stride + 1 - y);
                const Window window = {end - above, s->size, s->out_channels, bordered, s->out_step};
                products(scratch + (y + above) * bordered, s->out_step, window,
                         weights + above * s->size * s->out_channels * s->in_step, s->in_step,
                         s->in_width, vectors_of(s->in_channels), to + y * in_row, s->in_step);
            }
            continue;
        }
        for (long i = 0; i < s->in_height * in_row; i++) to[i] = 0;
        const uint8_t *const chosen = winners + image * rows * out_row;
        const Runs runs = {s->size, vectors_of(s->size * s->in_step), s->size * s->in_step, in_row};
        for (long y = 0; y < rows; y++)
            for (long x = 0; x < width; x++) {
                const long output = (y * width + x) * s->out_step;
                long count[4] = {0};
                for (long d = 0; d < s->out_channels; d++) {
                    const uint8_t winner = chosen[output + d];
                    const long i = winner * s->out_channels + count[winner]++;
                    factors[i] = errors[output + d];
                    offsets[i] = d * kernel;
                }
                for (int winner = 0; winner < 4; winner++) {
                    const long i = winner * s->out_channels;
                    if (count[winner])
                        add_scaled(count[winner], factors + i, offsets + i, weights, runs,
                                   to + winning_window(s, y, x, winner));
                }
            }
    }
}
