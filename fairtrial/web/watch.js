"use strict";

// The page follows its file: it reads it again, unless somebody reads, or unfolds something.

let lastUse = 0;
for (const event of ["pointerdown", "pointermove", "wheel", "keydown", "touchmove"]) {
  addEventListener(event, () => (lastUse = Date.now()), { passive: true });
}

setInterval(() => {
  const inUse = Date.now() - lastUse < 3_000 || document.querySelector("details[open]");
  if (!document.hidden && !inUse) location.reload();
}, 2_000);
