"use strict";

// The plots of the page, drawn in its colours.

const specs = JSON.parse(document.getElementById("plot-specs").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 800px)");

function drawPlots() {
  const style = getComputedStyle(document.documentElement);
  const [text, muted, border] = ["--text", "--muted", "--border"].map((name) => style.getPropertyValue(name));
  const label = { labelColor: muted, titleColor: muted, titleFontWeight: 600 };
  const config = {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: border },
    axis: { ...label, labelFlush: false, gridColor: border, domainColor: border, tickColor: border },
    header: { labelColor: text, labelFontSize: 12 },
    legend: { ...label, orient: "top", title: null, symbolOpacity: 1, symbolSize: 300, layout: { top: { direction: "vertical", anchor: "start" } } },
    text: { color: text },
    range: {
      category: dark.matches
        ? ["#6ea8e8", "#f0a35e", "#58c98b", "#e58fb9", "#b9a4f2", "#d6c35c", "#5cc8cf", "#c9a27c", "#f08080", "#a9b4c4"]
        : ["#2f6fb5", "#d0701c", "#1d8a52", "#b8437c", "#7356c4", "#8f7a10", "#0f8490", "#80552b", "#c8332b", "#5f6b7d"],
    },
  };
  specs.forEach((spec, index) => {
    const element = document.getElementById(`plot${index}`);
    if (spec.facet) {
      spec.columns = narrow.matches ? 1 : 2;
      spec.spec.width = Math.min(380, element.clientWidth / spec.columns - 85);
    } else {
      spec.width = "container";
    }
    window.vegaEmbed(element, spec, {
      mode: "vega-lite",
      ast: true,
      renderer: "svg",
      config,
      tooltip: { theme: dark.matches ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false },
    });
  });
}

// The wheel scrolls the page, and zooms a plot only while shift is held. On a touch screen plots do
// not zoom or pan, so that a finger scrolls the page.
const touch = matchMedia("(pointer: coarse)").matches;
for (const layer of specs.flatMap((spec) => spec.layer ?? [])) {
  if (touch) layer.params = layer.params?.filter(({ bind }) => bind !== "scales");
  for (const param of layer.params ?? []) {
    if (param.bind === "scales") param.select = { type: "interval", zoom: "wheel![event.shiftKey]" };
  }
}

drawPlots();
dark.addEventListener("change", drawPlots);
narrow.addEventListener("change", drawPlots);
