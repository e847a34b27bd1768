"use strict";

// DVC's page of plots: draw what DVC wrote after the tag <plaintext>, which no HTML in a name ends.

addEventListener("DOMContentLoaded", () => {
  const text = document.querySelector("plaintext").textContent;
  // A plot is a line of JSON; a picture comes after a paragraph with the name of its revision.
  for (const [, spec, revision, source] of text.matchAll(/var spec = (.*);$|<p>(.*)<\/p>\s*<img src="(.*)">/gm)) {
    const figure = document.querySelector("main").appendChild(document.createElement("figure"));
    const caption = figure.appendChild(document.createElement("figcaption"));
    if (spec) {
      draw(figure, caption, JSON.parse(spec));
    } else {
      caption.textContent = `${source.replace(/.*[/_]/, "")}, ${revision}`;
      figure.append(Object.assign(new Image(), { src: source, alt: caption.textContent }));
    }
  }
});

// usermeta, which could set options of vega-embed, is left out.
async function draw(figure, caption, { title, usermeta, ...plot }) {
  caption.textContent = title?.text ?? "Plot";
  if (plot.spec) {
    const column = plot.facet?.column?.field;
    const isWrapped = Boolean(plot.facet?.field); // into rows of panels
    const columns = column ? new Set(plot.data.values.map((row) => row[column])).size : 2;
    plot.columns = isWrapped && innerWidth < 800 ? 1 : 2;
    if (isWrapped || columns > 1) figure.className = "wide";
    plot.spec.width = Math.min(plot.spec.width, (figure.clientWidth - 110) / (isWrapped ? plot.columns : columns));
  } else {
    plot.width = "container";
  }
  const place = figure.appendChild(document.createElement("div"));
  const config = { legend: { orient: "top", layout: { top: { direction: "vertical" } } } };
  const actions = { export: true, source: false, compiled: false, editor: false };
  await window.vegaEmbed(place, plot, { ast: true, renderer: "canvas", config, actions });
  const canvas = place.querySelector("canvas");
  canvas.setAttribute("role", "img");
  canvas.ariaLabel = caption.textContent;
  place.querySelector("summary").ariaLabel = `Save ${caption.textContent}`;
}
