"""The page of runs can be read by all: by keys, in the dark, and unseen.

Authors
 * qlung_plugin contributors
"""

import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.report_page import chosen


def test_focus_can_be_seen(open_page, report):
    page = open_page(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = 0
    for _ in range(60):
        page.keyboard.press("Tab")
        style = page.evaluate(
            """() => {
                const style = getComputedStyle(document.activeElement);
                return [document.activeElement.tagName, style.outlineStyle];
            }"""
        )
        if style[0] == "BODY":
            break
        # The browser's own controls of a player mark the one in focus.
        assert style[1] != "none" or style[0] == "AUDIO", style
        seen += 1
    assert seen > 20


def contrast(one, other):
    """As WCAG 2 defines it."""

    def luminance(color):
        rgb = np.array(color) / 255
        linear = np.where(
            rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(open_page, report, scheme):
    """Every text against the grounds that lie under it, laid on each other."""
    page = open_page(report, scheme=scheme)
    pairs = page.evaluate(
        """() => {
            const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
            const found = [];
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const element = walker.currentNode.parentElement;
                if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
                if (element.closest("script, style, noscript, option")) continue;
                const style = getComputedStyle(element);
                const text = element.closest("svg") ? style.fill : style.color;
                const grounds = [];
                for (let at = element; at; at = at.parentElement) {
                    grounds.push(numbers(getComputedStyle(at).backgroundColor));
                }
                found.push([walker.currentNode.data.trim(), numbers(text), grounds]);
            }
            return found;
        }"""
    )
    assert len(pairs) > 300
    for text, color, grounds in pairs:
        ground = np.array([255.0, 255.0, 255.0])
        for layer in reversed(grounds):
            alpha = layer[3] if len(layer) > 3 else 1.0
            ground = alpha * np.array(layer[:3]) + (1 - alpha) * ground
        assert contrast(color[:3], ground) >= 4.5, (text, color, ground)


def test_dark_is_dark_and_light_is_light(open_page, report, width):
    for scheme, bright in (("light", True), ("dark", False)):
        page = open_page(report, width, scheme)
        for section in ("scores", "quality", "map"):
            picture = page.locator(f"#{section}").screenshot()
            image = Image.open(io.BytesIO(picture)).convert("L")
            assert (np.median(np.asarray(image)) > 128) == bright


def test_names_of_things_for_those_who_do_not_see(open_page, report):
    page = open_page(report)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll(
                "select, input, [role=region], [role=img], [role=application], audio, nav"
            )].filter((e) => !(e.labels?.length || e.getAttribute("aria-label")))
              .map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert unnamed == []
    assert page.locator("#spectrogram img").get_attribute("alt") == (
        f"Log-mel spectrogram of {chosen(page)}"
    )
    levels = page.evaluate(
        """() => [...document.querySelectorAll("h1, h2, h3, h4")]
              .map((e) => Number(e.tagName[1]))"""
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in zip(levels, levels[1:]))
