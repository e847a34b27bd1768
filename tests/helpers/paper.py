"""What of a page comes on paper, printed by Chromium."""

import re
import zlib
from collections import Counter

from playwright.sync_api import Page

A4 = 703  # pixels between margins of 12 mm
NUMBER = re.compile(r"(?<![\w.])\d[\d.,]*(?!\w)")  # and no part of a hash, which a line may break

# The texts of a page, and whether each is seen: not hidden, and not beyond the page or an element
# that cuts it off.
TEXTS = """() => {
  const result = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const parent = walker.currentNode.parentElement;
    if (!parent.checkVisibility() || parent.tagName === "title") continue;
    const cuts = [document.documentElement];
    for (let one = parent; one; one = one.parentElement) {
      if (getComputedStyle(one).overflowX !== "visible") cuts.push(one);
    }
    const isSeen = [...range.getClientRects()].every((box) => cuts.every((one) => {
      const { left, right } = one.getBoundingClientRect();
      return box.left >= left - 1 && box.right <= right + 1;
    }));
    result.push([walker.currentNode.textContent, isSeen]);
  }
  return result;
}"""


def numbers_of_page(page: Page) -> tuple[Counter[str], list[str]]:
    """Return the numbers that a page shows on paper of A4, and the texts that are cut off."""
    page.set_viewport_size({"width": A4, "height": 1000})
    page.emulate_media(media="print")
    texts = page.evaluate(TEXTS)
    page.emulate_media()
    cut = [text for text, is_seen in texts if not is_seen and NUMBER.search(text)]
    return Counter(NUMBER.findall(" ".join(text for text, _ in texts))), cut


def read_pdf(content: bytes) -> tuple[int, Counter[str]]:
    """Return the number of pages and the numbers in a PDF that Chromium has printed."""
    bodies = {
        int(number): body
        for number, body in re.findall(rb"(\d+) 0 obj\n(.*?)endobj", content, re.DOTALL)
    }
    streams = {
        number: zlib.decompress(body.partition(b"stream\n")[2]).decode("latin1")
        for number, body in bodies.items()
        if b"/FlateDecode" in body and b"/Subtype /Image" not in body
    }
    fonts: dict[str, dict[int, str]] = {}  # characters by their codes
    for number, body in bodies.items():
        if found := re.search(rb"/ToUnicode (\d+) 0 R", body):
            ranges = re.findall(
                r"^<(\w+)>(?: <(\w+)>)? <(\w{4})>$", streams[int(found[1])], re.MULTILINE
            )
            fonts[str(number)] = {
                code: chr(int(text, 16) + code - int(first, 16))
                for first, last, text in ranges
                for code in range(int(first, 16), int(last or first, 16) + 1)
            }
    words = []
    for stream in streams.values():
        for block in re.findall(r"^BT$(.*?)^ET$", stream, re.DOTALL | re.MULTILINE):
            of_font: dict[int, str] = {}
            for font, codes in re.findall(r"/F(\d+) |<([0-9A-F]+)> Tj", block):
                of_font = fonts[font] if font else of_font
                words += [of_font[int(code, 16)] for code in re.findall("....", codes)]
            words.append(" ")
    pages = sum(b"/Type /Page\n" in body for body in bodies.values())
    return pages, Counter(NUMBER.findall("".join(words)))
