"use strict";

// The arithmetic of the models in stages/learning/models.py, in float64, for grey square images.
// A tensor is { shape, values }, with the values in C order.

const model = JSON.parse(document.getElementById("model").textContent);

const weights = Object.fromEntries(
  Object.entries(model.weights).map(([name, { shape, values }]) => [
    name,
    { shape, values: new Float32Array(Uint8Array.from(atob(values), (c) => c.charCodeAt(0)).buffer) },
  ]),
);

// The convolutions of a CNN, from the first to the last, and the number of features after them.
function convolutionLayers(size, width) {
  const layers = [];
  let channels = 1;
  while (size >= 8) {
    layers.push({ channels, width, pool: false }, { channels: width, width, pool: true });
    [channels, width, size] = [width, 2 * width, Math.floor((size - 4) / 2)];
  }
  if (size >= 3) {
    layers.push({ channels, width, pool: false });
    [channels, size] = [width, size - 2];
  }
  return { layers, features: channels * size * size };
}

// The shapes of a model's weights by name, or null if this page does not know the model.
function weightShapes({ name, width, size, classes: { length: n } }) {
  const pixels = size * size;
  if (name === "linear") return { weight: [n, pixels], bias: [n] };
  if (name === "mlp") {
    return { hidden_weight: [width, pixels], hidden_bias: [width], weight: [n, width], bias: [n] };
  }
  if (name !== "cnn") return null;
  const { layers, features } = convolutionLayers(size, width);
  const shapes = layers.flatMap((layer, number) => [
    [`convolutions.${number}.weight`, [layer.width, layer.channels, 3, 3]],
    ...["scale", "shift", "mean", "var"].map((key) => [`convolutions.${number}.${key}`, [layer.width]]),
  ]);
  return { ...Object.fromEntries(shapes), weight: [n, features], bias: [n] };
}

// A sentence that says why this page cannot compute the model, or null if it can.
function findProblem() {
  const shapes = weightShapes(model);
  if (!shapes) return `This page cannot compute a model ${model.name}: classify pictures with python -m tools predict.`;
  for (const name of new Set([...Object.keys(shapes), ...Object.keys(weights)])) {
    const [expected, actual] = [shapes[name], weights[name]?.shape].map((shape) => shape?.join(" × ") ?? "missing");
    if (expected !== actual) {
      return `This page cannot compute the model: to it ${name} is ${expected}, and in the checkpoint ${actual}. Classify pictures with python -m tools predict.`;
    }
  }
  return null;
}

// x (K), weight (N, K), bias (N) -> (N)
function linear(x, weight, bias) {
  const [n, k] = weight.shape;
  return Float64Array.from({ length: n }, (_, row) => {
    let sum = bias.values[row];
    for (let i = 0; i < k; i++) sum += weight.values[row * k + i] * x[i];
    return sum;
  });
}

function relu(x) {
  return x.map((value) => Math.max(value, 0));
}

// x (C, side, side), weight (N, C, 3, 3) -> (N, side - 2, side - 2)
function conv2d(x, side, weight) {
  const [n, channels] = weight.shape;
  const size = side - 2;
  const y = new Float64Array(n * size * size);
  for (let out = 0; out < n; out++) {
    for (let c = 0; c < channels; c++) {
      for (let tap = 0; tap < 9; tap++) {
        const w = weight.values[(out * channels + c) * 9 + tap];
        const start = c * side * side + Math.floor(tap / 3) * side + (tap % 3);
        for (let row = 0; row < size; row++) {
          for (let column = 0; column < size; column++) {
            y[(out * size + row) * size + column] += w * x[start + row * side + column];
          }
        }
      }
    }
  }
  return y;
}

// The maximum of each 2 x 2 pixels: x (C, side, side) -> (C, side / 2, side / 2), rounded down.
function maxPool2d(x, side) {
  const half = Math.floor(side / 2);
  const channels = x.length / (side * side);
  return Float64Array.from({ length: channels * half * half }, (_, i) => {
    const [channel, row, column] = [Math.floor(i / (half * half)), Math.floor(i / half) % half, i % half];
    const corner = (channel * side + 2 * row) * side + 2 * column;
    return Math.max(x[corner], x[corner + 1], x[corner + side], x[corner + side + 1]);
  });
}

// Batch normalisation of x (C, ...) by the running mean and variance (C).
function batchNorm(x, { mean, variance, scale, shift }) {
  const size = x.length / mean.values.length;
  return x.map((value, i) => {
    const c = Math.floor(i / size);
    const factor = scale.values[c] / Math.sqrt(variance.values[c] + 1e-5);
    return (value - mean.values[c]) * factor + shift.values[c];
  });
}

// The logits of an image, size * size numbers from 0 to 255.
function logits(image) {
  let x = Float64Array.from(image, (value) => value / 255);
  if (model.name === "mlp") x = relu(linear(x, weights.hidden_weight, weights.hidden_bias));
  if (model.name === "cnn") {
    let side = model.size;
    convolutionLayers(model.size, model.width).layers.forEach(({ pool }, number) => {
      const tensor = (name) => weights[`convolutions.${number}.${name}`];
      x = conv2d(x, side, tensor("weight"));
      side -= 2;
      if (pool) {
        x = maxPool2d(x, side);
        side = Math.floor(side / 2);
      }
      const statistics = { mean: tensor("mean"), variance: tensor("var") };
      x = relu(batchNorm(x, { ...statistics, scale: tensor("scale"), shift: tensor("shift") }));
    });
  }
  return Array.from(linear(x, weights.weight, weights.bias));
}

function softmax(values) {
  const largest = Math.max(...values);
  const exponentials = values.map((value) => Math.exp(value - largest));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((value) => value / sum);
}
