// The weights of layers, in torch's order and in those of the kernels.

#include "vectors.h"

// Weights in torch's order, (outputs, channels, taps), in another: element (d, c, t) is at
// d * of_output + c * of_channel + t * of_tap of `out`, which has `size` floats; the rest is 0.
// A negative of_tap reverses the taps.
void pack_weights(long outputs, long channels, long taps, const float *weights, long of_output,
                  long of_channel, long of_tap, long size, float *out) {
    for (long i = 0; i < size; i++) out[i] = 0;
    if (of_tap < 0) out -= (taps - 1) * of_tap;
    for (long d = 0; d < outputs; d++)
        for (long c = 0; c < channels; c++)
            for (long t = 0; t < taps; t++)
                out[d * of_output + c * of_channel + t * of_tap] =
                    weights[(d * channels + c) * taps + t];
}

// The sums of chunks of `size` floats, in torch's order of weights; added in the chunks' order.
void unpack_sums(long outputs, long channels, long taps, const float *sums, long of_output,
                 long of_channel, long of_tap, long size, long chunks, float *out) {
    IEEE_754;
    for (long d = 0; d < outputs; d++)
        for (long c = 0; c < channels; c++)
            for (long t = 0; t < taps; t++) {
                const float *from = sums + d * of_output + c * of_channel + t * of_tap;
                float sum = out[(d * channels + c) * taps + t];
                for (long chunk = 0; chunk < chunks; chunk++) sum += from[chunk * size];
                out[(d * channels + c) * taps + t] = sum;
            }
}
