"use strict";

// DVC's page of plots: draw what DVC wrote after the tag <plaintext>, which no HTML in a name ends.

addEventListener("DOMContentLoaded", () => {
  const text = document.querySelector("plaintext").textContent;
  // A plot is a line of JSON; a picture comes after a paragraph with the name of its revision.
  for (const [, spec, caption, source] of text.matchAll(/var spec = (.*);$|<p>(.*)<\/p>\s*<img src="(.*)">/gm)) {
    const figure = document.body.appendChild(document.createElement("figure"));
    if (spec) {
      const { usermeta, ...plot } = JSON.parse(spec); // usermeta could set options of vega-embed
      window.vegaEmbed(figure, plot, { ast: true });
    } else {
      figure.append(caption, document.createElement("br"), Object.assign(new Image(), { src: source }));
    }
  }
});
