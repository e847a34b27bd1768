"use strict";

const { specs, model } = JSON.parse(document.getElementById("data").textContent);

// The plots, in the page's colours.

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 800px)");

function drawPlots() {
  const style = getComputedStyle(document.documentElement);
  const [text, faint, line] = ["--text", "--faint", "--line"].map((name) => style.getPropertyValue(name));
  const label = { labelColor: faint, titleColor: faint, titleFontWeight: 600 };
  const config = {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: line },
    axis: { ...label, labelFlush: false, gridColor: line, domainColor: line, tickColor: line },
    header: { labelColor: text, labelFontSize: 12 },
    legend: { ...label, orient: "top", title: null, symbolOpacity: 1, symbolSize: 300, layout: { top: { direction: "vertical", anchor: "start" } } },
    text: { color: text },
    range: {
      category: dark.matches
        ? ["#6ea8e8", "#f0a35e", "#58c98b", "#e58fb9", "#b9a4f2", "#d6c35c", "#5cc8cf", "#c9a27c", "#f08080", "#a9b4c4"]
        : ["#2f6fb5", "#d0701c", "#1d8a52", "#b8437c", "#7356c4", "#8f7a10", "#0f8490", "#80552b", "#c8332b", "#5f6b7d"],
    },
  };
  specs.forEach((spec, number) => {
    const place = document.getElementById(`plot${number}`);
    if (spec.facet) {
      spec.columns = narrow.matches ? 1 : 2;
      spec.spec.width = Math.min(380, place.clientWidth / spec.columns - 85);
    } else {
      spec.width = "container";
    }
    window.vegaEmbed(place, spec, {
      mode: "vega-lite",
      renderer: "svg",
      config,
      tooltip: { theme: dark.matches ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false },
    });
  });
}

// Wheel and fingers scroll the page; what is in a plot moves by the mouse, and zooms with shift.
const finger = matchMedia("(pointer: coarse)").matches;
for (const layer of specs.flatMap((spec) => spec.layer ?? [])) {
  if (finger) layer.params = layer.params?.filter(({ bind }) => bind !== "scales");
  for (const param of layer.params ?? []) {
    if (param.bind === "scales") param.select = { type: "interval", zoom: "wheel![event.shiftKey]" };
  }
}

drawPlots();
dark.addEventListener("change", drawPlots);
narrow.addEventListener("change", drawPlots);

// The model, as stages/learning/models.py has it. A tensor is { shape, values }, its values in C order.

const weights = Object.fromEntries(
  Object.entries(model.weights ?? {}).map(([name, { shape, values }]) => [
    name,
    { shape, values: new Float32Array(Uint8Array.from(atob(values), (c) => c.charCodeAt(0)).buffer) },
  ]),
);

// x (K), weight (N, K), bias (N): gives (N).
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

// x (C, S, S), weight (N, C, 3, 3): gives (N, S - 2, S - 2).
function convolve(x, side, weight) {
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

// The largest of each 2 x 2 pixels of x (C, S, S).
function pool(x, side) {
  const half = side / 2;
  return Float64Array.from({ length: x.length / 4 }, (_, i) => {
    const corner = 2 * (Math.floor(i / half) * side + (i % half));
    return Math.max(x[corner], x[corner + 1], x[corner + side], x[corner + side + 1]);
  });
}

// Batch normalisation of x (C, ...) by the running mean and variance.
function normalize(x, { mean, variance, scale, shift }) {
  const size = x.length / mean.values.length;
  return x.map((value, i) => {
    const c = Math.floor(i / size);
    const factor = scale.values[c] / Math.sqrt(variance.values[c] + 1e-5);
    return (value - mean.values[c]) * factor + shift.values[c];
  });
}

// The ten logits of an image: 784 numbers from 0 to 255.
function logits(image) {
  let x = Float64Array.from(image, (value) => value / 255);
  if (model.name === "mlp") x = relu(linear(x, weights.hidden_weight, weights.hidden_bias));
  if (model.name === "cnn") {
    let side = 28;
    for (let layer = 0; layer < 5; layer++) {
      const of = (name) => weights[`convolutions.${layer}.${name}`];
      x = convolve(x, side, of("weight"));
      side -= 2;
      if (layer === 1 || layer === 3) {
        x = pool(x, side);
        side /= 2;
      }
      x = relu(normalize(x, { mean: of("mean"), variance: of("var"), scale: of("scale"), shift: of("shift") }));
    }
  }
  return Array.from(linear(x, weights.weight, weights.bias));
}

function softmax(values) {
  const largest = Math.max(...values);
  const shares = values.map((value) => Math.exp(value - largest));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

// A drawing in MNIST's form, as tools/predict.py makes it: ink (S * S) to 784 numbers, or null.
function asMnist(ink, side) {
  let [top, left, bottom, right] = [side, side, -1, -1];
  ink.forEach((value, i) => {
    if (value === 0) return;
    const [row, column] = [Math.floor(i / side), i % side];
    [top, left] = [Math.min(top, row), Math.min(left, column)];
    [bottom, right] = [Math.max(bottom, row), Math.max(right, column)];
  });
  if (bottom < 0) return null;
  const [drawnHeight, drawnWidth] = [bottom - top + 1, right - left + 1];
  const scale = 20 / Math.max(drawnHeight, drawnWidth);
  const [height, width] = [drawnHeight, drawnWidth].map((size) => Math.max(1, Math.round(size * scale)));
  const small = Float64Array.from({ length: height * width }, (_, i) => {
    const [y, x] = [Math.floor(i / width), i % width];
    let [total, count] = [0, 0];
    for (let row = Math.floor(y / scale); row < Math.min((y + 1) / scale, drawnHeight); row++) {
      for (let column = Math.floor(x / scale); column < Math.min((x + 1) / scale, drawnWidth); column++) {
        total += ink[(top + row) * side + left + column];
        count++;
      }
    }
    return total / Math.max(count, 1);
  });
  const largest = Math.max(...small);
  let [sum, y, x] = [0, 0, 0];
  small.forEach((value, i) => {
    sum += value;
    y += value * Math.floor(i / width);
    x += value * (i % width);
  });
  const corner = (centre, size) => Math.min(Math.max(Math.round(14 - centre / sum), 0), 28 - size);
  const [first, second] = [corner(y, height), corner(x, width)];
  const image = new Array(784).fill(0);
  small.forEach((value, i) => {
    const place = (first + Math.floor(i / width)) * 28 + second + (i % width);
    image[place] = Math.round((255 * value) / largest);
  });
  return image;
}

// Drawing.

function answer(paper) {
  const { data } = paper.getContext("2d").getImageData(0, 0, paper.width, paper.height);
  const image = asMnist(Array.from({ length: data.length / 4 }, (_, i) => data[4 * i + 3]), paper.width);
  const shares = image && softmax(logits(image));
  const digit = shares && shares.indexOf(Math.max(...shares));
  document.getElementById("answer").textContent = shares ? `${digit}, ${Math.round(100 * shares[digit])} %` : "";
  document.querySelectorAll("#bars tr").forEach((row, number) => {
    row.className = number === digit ? "first" : "";
    row.querySelector("span").style.width = shares ? `${100 * shares[number]}%` : 0;
    row.lastElementChild.textContent = shares ? `${(100 * shares[number]).toFixed(1)} %` : "–";
  });
  const seen = document.getElementById("seen").getContext("2d");
  const pixels = seen.createImageData(28, 28);
  (image ?? new Array(784).fill(0)).forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  seen.putImageData(pixels, 0, 0);
}

const paper = document.getElementById("paper");
if (paper) {
  const pen = paper.getContext("2d", { willReadFrequently: true });
  let last = null;
  const point = (event) => [event.offsetX, event.offsetY];
  const draw = (event) => {
    if (!last || !event.isPrimary) return;
    // Grey, to be seen on light and dark; only where there is ink matters.
    Object.assign(pen, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: "#7f8da3" });
    pen.beginPath();
    pen.moveTo(...last);
    last = point(event);
    pen.lineTo(...last);
    pen.stroke();
    answer(paper);
  };
  paper.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    paper.setPointerCapture(event.pointerId);
    last = point(event);
    draw(event);
  });
  paper.addEventListener("pointermove", draw);
  for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, () => (last = null));
  document.getElementById("clear").addEventListener("click", () => {
    pen.clearRect(0, 0, paper.width, paper.height);
    answer(paper);
  });
  answer(paper);
}
