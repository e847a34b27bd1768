// Linear layers: products of matrices whose rows are `step` floats apart.

#include "products.h"

#define CHAIN 256  // examples in a chain of a gradient of weights; the chains are added

typedef struct {
    long examples, inputs, in_step, outputs, out_step;
} Dense;

// For replicas [first, last): out = x @ weights + bias. x: (examples, in_step); weights: (inputs,
// out_step); bias: (outputs); out: (examples, out_step). Each: the chain over inputs, then the bias.
void dense(long first, long last, const Dense *s, const float *x, const float *weights,
           const float *bias, float *out) {
    IEEE_754;
    const Window window = {1, 1, s->inputs, 0, 0};
    for (long replica = first; replica < last; replica++) {
        float *const rows = out + replica * s->examples * s->out_step;
        products(x + replica * s->examples * s->in_step, s->in_step, window,
                 weights + replica * s->inputs * s->out_step, s->out_step, s->examples,
                 vectors_of(s->outputs), rows, s->out_step);
        if (bias)
            for (long n = 0; n < s->examples; n++)
                for (long m = 0; m < s->outputs; m++)
                    rows[n * s->out_step + m] += bias[replica * s->outputs + m];
    }
}

// For replicas [first, last): sums (outputs, in_step) over examples of gradient (examples,
// out_step) times x (examples, in_step), and of the gradient: (outputs).
void dense_gradient(long first, long last, const Dense *s, const float *x, const float *gradient,
                    float *of_weights, float *of_bias) {
    IEEE_754;
    for (long replica = first; replica < last; replica++) {
        const float *const errors = gradient + replica * s->examples * s->out_step;
        const float *const inputs = x + replica * s->examples * s->in_step;
        float *const sums = of_weights + replica * s->outputs * s->in_step;
        for (long i = 0; i < s->outputs * s->in_step; i++) sums[i] = 0;
        for (long n = 0; n < s->examples; n += CHAIN) {
            const Pixels a = {errors + n * s->out_step, 0, s->out_step};
            const Pixels b = {inputs + n * s->in_step, 0, s->in_step};
            outer_products(a, b, 1, smaller(CHAIN, s->examples - n), s->outputs,
                           vectors_of(s->inputs), sums, s->in_step);
        }
        for (long m = 0; m < s->outputs; m++) {
            double sum = 0;
            for (long n = 0; n < s->examples; n++) sum += errors[n * s->out_step + m];
            of_bias[replica * s->outputs + m] = (float)sum;
        }
    }
}
