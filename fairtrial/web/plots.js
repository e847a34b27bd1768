"use strict";

// The plots of the page, drawn in its colours.

const specs = JSON.parse(document.getElementById("plot-specs").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 800px)");

const heldOut = document.getElementById("held-out"); // null if there is no such split

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
    legend: { ...label, orient: "top", title: null, symbolOpacity: 1, symbolSize: 300, symbolBaseFillColor: muted, layout: { top: { direction: "vertical", anchor: "start" } } },
    text: { color: text },
    rule: { color: muted },
    range: {
      category: dark.matches
        ? ["#6ea8e8", "#f0a35e", "#58c98b", "#e58fb9", "#b9a4f2", "#d6c35c", "#5cc8cf", "#c9a27c", "#f08080", "#a9b4c4"]
        : ["#2f6fb5", "#d0701c", "#1d8a52", "#b8437c", "#7356c4", "#8f7a10", "#0f8490", "#80552b", "#c8332b", "#5f6b7d"],
    },
  };
  specs.forEach((spec, index) => {
    const element = document.getElementById(`plot${index}`);
    if (!element.checkVisibility()) return; // it has no width yet
    if (spec.facet?.field) {
      // A list of panels, or, in DVC's matrices, something else.
      const panels = Array.isArray(spec.facet.sort) ? spec.facet.sort.length : 2;
      const isWide = element.parentElement.classList.contains("wide");
      spec.columns = isWide && !narrow.matches ? Math.min(2, panels) : 1;
      spec.spec.width = Math.min(panels === 1 ? 760 : 380, element.clientWidth / spec.columns - 85);
    } else if (spec.facet) {
      spec.spec.width = Math.min(760, element.clientWidth - 85); // rows and columns of panels
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
heldOut?.addEventListener("toggle", drawPlots);
document.querySelector('a[href="#held-out"]')?.addEventListener("click", () => (heldOut.open = true));
dark.addEventListener("change", drawPlots);
narrow.addEventListener("change", drawPlots);
