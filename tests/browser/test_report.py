"""The page of runs in a real browser: it opens, filters, plays, and fits.

Authors
 * qlung_plugin contributors
"""

import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from qlung_plugin.report.page import render_page
from qlung_plugin.report.recordings import use_recordings
from qlung_plugin.report.sources import find_runs
from qlung_plugin.utils.results import read_predictions
from tests.unittests.report_runs import write_recordings, write_run

UNMEASURED = {"003_1b1_002", "004_1b1_001"}
SOUNDS = 30


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two runs on the same cycles."""
    folder = tmp_path_factory.mktemp("results")
    data_folder = write_recordings(folder / "data")
    for place, name in enumerate(("ce", "qlung")):
        write_run(
            folder / name / "1",
            data_folder,
            seed=10 * place,
            unmeasured=UNMEASURED,
        )
    return folder


@pytest.fixture(scope="module")
def tables(results):
    """Predictions of both, with the confidence and whether they are right."""
    found = {}
    for name in ("ce/1", "qlung/1"):
        table = read_predictions(results / name / "predictions.csv")
        table["confidence"] = table.filter(like="p_").max(axis=1)
        table["right"] = table["label"] == table["prediction"]
        table["device"] = table["device"].fillna("unknown")
        found[name] = table.set_index("id")
    return found


@pytest.fixture(scope="module")
def address(results):
    """The page on disk. Its maps are a spiral: there is no model."""
    runs, evaluations, notes = find_runs(
        [results / "ce/1", results / "qlung/1"]
    )
    recordings = use_recordings(runs, method="none", sounds=SOUNDS)
    count = len(runs[0].predictions)
    angle = np.linspace(0, 20, count)
    for turn, run in enumerate(runs):
        radius = 0.05 + 0.45 * np.linspace(0, 1, count)
        x, y = radius * np.cos(angle + turn), radius * np.sin(angle + turn)
        recordings.maps[run.name] = (0.5 + np.stack([x, y], 1)).tolist()
        recordings.differences[run.name] = 0.0
    path = results / "report.html"
    path.write_text(
        render_page(runs, evaluations, notes, recordings), encoding="utf-8"
    )
    return path.as_uri()


def listed(page):
    """The ids in the list, in order."""
    texts = page.locator(".row small").all_text_contents()
    return [text.split(" · ")[-1] for text in texts]


def wait_until(page, condition, seconds=10):
    """Waits for a condition; playwright's own way is what the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def chosen(page):
    return page.locator("#cycle-name").text_content()


def test_opens_fits_and_needs_nothing(open_page, address, width):
    page = open_page(address, width)
    assert (
        page.evaluate("document.documentElement.scrollWidth")
        <= (page.viewport_size["width"])
    )
    assert page.locator("h1").text_content() == "ce/1 and qlung/1"
    assert len(listed(page)) == 48
    # What stands over the box of its parent is scrolled in there.
    assert page.locator("main").count() == page.locator("nav").count() == 1
    assert page.locator(".map svg").count() == 2


FILTERS = {
    "label": (
        lambda page: page.select_option("[name=label]", label="wheeze"),
        lambda table: table["label"] == "wheeze",
    ),
    "called": (
        lambda page: page.select_option("[name=prediction]", label="both"),
        lambda table: table["prediction"] == "both",
    ),
    "wrong": (
        lambda page: page.select_option("[name=outcome]", "wrong"),
        lambda table: ~table["right"],
    ),
    "device": (
        lambda page: page.select_option("[name=device]", "unknown"),
        lambda table: table["device"] == "unknown",
    ),
    "quality": (
        lambda page: (
            page.fill("[name=from]", "0.25"),
            page.fill("[name=to]", "0.75"),
        ),
        lambda table: table["quality"].between(0.25, 0.75),
    ),
    "least quality": (
        lambda page: page.fill("[name=from]", "0"),
        lambda table: table["quality"].notna(),
    ),
    "two": (
        lambda page: (
            page.select_option("[name=device]", "Meditron"),
            page.select_option("[name=outcome]", "right"),
        ),
        lambda table: (table["device"] == "Meditron") & table["right"],
    ),
    "nothing": (
        lambda page: page.fill("[name=from]", "2"),
        lambda table: table["quality"] > 2,
    ),
}


@pytest.mark.parametrize("name", list(FILTERS))
@pytest.mark.parametrize("run", ["ce/1", "qlung/1"])
def test_filters(open_page, address, tables, name, run):
    act, condition = FILTERS[name]
    page = open_page(address)
    page.select_option("[name=run]", label=run)
    act(page)
    table = tables[run]
    expected = table[condition(table)]
    assert sorted(listed(page)) == sorted(expected.index)
    wrong = int((~expected["right"]).sum())
    count = page.locator("#count").text_content()
    assert count == (
        f"{len(expected)} of 48 cycles, {wrong} of them called wrongly"
    )
    # The maps show the same.
    dots = page.locator(".map").first.locator(".dot:not(.out)")
    assert dots.count() == len(expected)
    assert page.locator("#cycle").is_visible() == bool(len(expected))
    page.click("button[type=reset]")
    wait_until(page, "document.querySelectorAll('.row').length === 48")
    assert page.locator("#cycle").is_visible()


def test_order(open_page, address, tables):
    page = open_page(address)
    table = tables["ce/1"]
    wrong = table[~table["right"]].sort_values("confidence", ascending=False)
    right = table[table["right"]].sort_values("confidence")
    assert listed(page) == [*wrong.index, *right.index]
    for order, column, ascending in (
        ("sure", "confidence", False),
        ("unsure", "confidence", True),
        ("quality", "quality", True),
    ):
        page.select_option("[name=order]", order)
        by = table.sort_values(column, ascending=ascending, kind="stable")
        assert listed(page) == list(by.index)
    page.select_option("[name=order]", "recording")
    assert listed(page) == list(table.index)


def test_the_chosen_cycle_is_described(open_page, address, tables):
    page = open_page(address)
    key = chosen(page)
    for name, block in zip(tables, page.locator("#probabilities > div").all()):
        row = tables[name].loc[key]
        mark = "✓" if row["right"] else "✗"
        assert block.locator("h4").text_content() == (
            f"{mark} {name}: quality {row['quality']:.2f}"
        )
        shares = block.locator(".probability").all_text_contents()
        for label, share in zip(
            ("normal", "crackle", "wheeze", "both"), shares
        ):
            truth = " (truth)" if label == row["label"] else ""
            assert share == f"{label}{truth}{row[f'p_{label}']:.2f}"
    row = tables["ce/1"].loc[key]
    facts = page.locator("#about").inner_text()
    assert row["recording"] in facts and row["patient"] in facts
    page.fill("[name=to]", "")
    page.select_option("[name=order]", "quality")
    page.locator(".row").last.click()  # not measured
    assert chosen(page) in UNMEASURED
    assert "quality n/a" in page.locator("#probabilities").inner_text()


def test_sound_plays_to_its_end_by_keys(open_page, address):
    page = open_page(address)
    page.check("[name=sound]")
    assert len(listed(page)) == SOUNDS
    page.focus("#list")
    page.keyboard.press(" ")
    wait_until(page, "document.querySelector('#player').currentTime > 0.2")
    head = page.locator(".playhead").evaluate("e => parseFloat(e.style.left)")
    assert head > 10
    wait_until(page, "document.querySelector('#player').ended")
    state = page.locator("#player").evaluate(
        "p => [p.error, p.duration, p.paused]"
    )
    assert state[0] is None
    assert state[1] == pytest.approx(1.0, abs=0.2)
    # Again, and stop.
    page.keyboard.press(" ")
    wait_until(page, "!document.querySelector('#player').paused")
    page.keyboard.press(" ")
    wait_until(page, "document.querySelector('#player').paused")


def test_every_sound_and_picture_can_be_decoded(open_page, address):
    page = open_page(address)
    found = page.evaluate(
        """async () => {
            const data = JSON.parse(document.querySelector("#data").textContent);
            const context = new OfflineAudioContext(1, 16000, 16000);
            const there = data.media.filter((one) => one !== null);
            const peaks = [];
            for (const one of there) {
                const bytes = Uint8Array.from(atob(one.sound), (c) => c.charCodeAt(0));
                const sound = await context.decodeAudioData(bytes.buffer);
                peaks.push(Math.max(...sound.getChannelData(0)));
                const image = new Image();
                image.src = "data:image/webp;base64," + one.picture;
                await image.decode();
                if (image.naturalHeight !== 64) throw new Error("no picture");
            }
            return peaks;
        }"""
    )
    assert len(found) == SOUNDS
    assert all(0.5 < peak < 1.2 for peak in found)


def test_a_cycle_without_sound_says_so(open_page, address):
    page = open_page(address)
    marks = page.locator(".row > div:last-child > span").all_text_contents()
    page.locator(".row").nth(marks.index("")).click()
    assert not page.locator("#player").is_visible()
    assert not page.locator("#spectrogram").is_visible()
    assert "not in this page" in page.locator("#sound-note").text_content()
    page.keyboard.press(" ")  # nothing to play, and no error


def test_keys_go_through_the_list(open_page, address, width):
    page = open_page(address, width)
    ids = listed(page)
    page.focus("#list")
    for key, place in (
        ("ArrowDown", 1),
        ("j", 2),
        ("k", 1),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
        ("End", 47),
        ("j", 47),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert chosen(page) == ids[place]
        row = page.locator('.row[aria-selected="true"]')
        assert row.count() == 1
        active = page.locator("#list").get_attribute("aria-activedescendant")
        assert row.get_attribute("id") == active
        inside = page.evaluate(
            """() => {
                const box = document.querySelector("#list").getBoundingClientRect();
                const row = document.querySelector('.row[aria-selected="true"]')
                    .getBoundingClientRect();
                return row.top >= box.top - 1 && row.bottom <= box.bottom + 1;
            }"""
        )
        assert inside
    page.keyboard.press("PageDown")
    assert (
        chosen(page)
        == ids[
            page.evaluate(
                "Math.floor(document.querySelector('#list').clientHeight / 60)"
            )
        ]
    )
    # A letter that is typed elsewhere is no command.
    before = chosen(page)
    page.focus("[name=from]")
    page.keyboard.press("j")
    assert chosen(page) == before


def test_focus_can_be_seen(open_page, address):
    page = open_page(address)
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


def test_map_names_a_cycle_and_leads_to_it(open_page, address, tables, width):
    page = open_page(address, width)
    dots = page.locator(".map").nth(1).locator(".dot")
    assert dots.count() == 48
    place = 40
    key = list(tables["ce/1"].index)[place]
    dots.nth(place).scroll_into_view_if_needed()
    dots.nth(place).hover(force=True)
    said = page.locator("#pointed").text_content()
    assert said.startswith(f"{key}, ")
    for name, table in tables.items():
        row = table.loc[key]
        text = f"{name} says {row['prediction']} ({row['confidence']:.2f})"
        assert text in said
    dots.nth(place).click(force=True)
    assert chosen(page) == key
    assert page.evaluate("document.activeElement.id") == "list"
    for ring in page.locator(".ring").all():
        assert ring.get_attribute("visibility") == "visible"
    # Hollow is what the run of the map is wrong about.
    for table, figure in zip(tables.values(), page.locator(".map").all()):
        wrong = figure.locator(".dot.wrong").count()
        assert wrong == int((~table["right"]).sum())


def test_map_by_keys(open_page, address):
    page = open_page(address)
    page.locator(".map svg").first.focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#pointed").text_content()
    assert "says" in first
    page.keyboard.press("ArrowUp")
    second = page.locator("#pointed").text_content()
    assert second != first
    page.keyboard.press("Enter")
    assert chosen(page) == second.split(",")[0]
    assert page.evaluate("document.activeElement.id") == "list"


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
def test_text_can_be_read(open_page, address, scheme):
    """Every text against the grounds that lie under it, laid on each other."""
    page = open_page(address, scheme=scheme)
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


def test_dark_is_dark_and_light_is_light(open_page, address, width):
    for scheme, bright in (("light", True), ("dark", False)):
        page = open_page(address, width, scheme)
        for section in ("scores", "quality", "map"):
            picture = page.locator(f"#{section}").screenshot()
            image = Image.open(io.BytesIO(picture)).convert("L")
            assert (np.median(np.asarray(image)) > 128) == bright


def test_names_of_things_for_those_who_do_not_see(open_page, address):
    page = open_page(address)
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


def test_thousands_of_cycles_stay_fast(open_page, address, results):
    """As many as the whole of ICBHI's test side has."""
    text = (results / "report.html").read_text(encoding="utf-8")
    script = re.search(r'id="data">(.*?)</script>', text, flags=re.S)[1]
    data = json.loads(script)
    times = 2756 // 48 + 1
    for name, values in data["cycles"].items():
        data["cycles"][name] = values * times
    for name in ("spans", "media"):
        data[name] = data[name] * times
    for run in data["runs"]:
        for name in ("prediction", "probabilities", "quality", "map"):
            run[name] = run[name] * times
    path = results / "large.html"
    path.write_text(text.replace(script, json.dumps(data)), encoding="utf-8")
    page = open_page(path.as_uri())
    assert page.locator(".row").count() == 48 * times
    loaded = page.evaluate(
        "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    )
    assert loaded < 5000
    seconds = page.evaluate(
        """() => {
            const form = document.querySelector("#filters");
            const start = performance.now();
            form.elements.outcome.value = "wrong";
            form.dispatchEvent(new Event("input"));
            document.querySelector("#list").getBoundingClientRect();
            return (performance.now() - start) / 1000;
        }"""
    )
    assert seconds < 1
