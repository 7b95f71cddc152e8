"""The page of runs in a real browser: it opens, filters, plays, and fits.

Authors
 * qlung_plugin contributors
"""

import numpy as np
import pytest

from tests.browser.report_page import (
    SOUNDS,
    UNMEASURED,
    chosen,
    listed,
    wait_until,
)


def test_opens_fits_and_needs_nothing(open_page, report, width):
    page = open_page(report, width)
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


@pytest.mark.parametrize("run", ["ce/1", "qlung/1"])
def test_filters(open_page, report, report_tables, run):
    page = open_page(report)
    page.select_option("[name=run]", label=run)
    table = report_tables[run]
    for name, (act, condition) in FILTERS.items():
        act(page)
        expected = table[condition(table)]
        assert sorted(listed(page)) == sorted(expected.index), name
        wrong = int((~expected["right"]).sum())
        assert page.locator("#count").text_content() == (
            f"{len(expected)} of 48 cycles, {wrong} of them called wrongly"
        )
        # The maps show the same.
        dots = page.locator(".map").first.locator(".dot:not(.out)")
        assert dots.count() == len(expected)
        assert page.locator("#cycle").is_visible() == bool(len(expected))
        page.click("button[type=reset]")
        wait_until(page, "document.querySelectorAll('.row').length === 48")
        assert page.locator("#cycle").is_visible()
        page.select_option("[name=run]", label=run)


def test_an_empty_list_says_so(open_page, report):
    page = open_page(report)
    said = (
        "getComputedStyle(document.querySelector('#list'), '::before').content"
    )
    assert page.evaluate(said) == "none"
    page.fill("[name=from]", "2")
    assert "No cycle" in page.evaluate(said)


def test_order(open_page, report, report_tables):
    page = open_page(report)
    table = report_tables["ce/1"]
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


def test_the_chosen_cycle_is_described(open_page, report, report_tables):
    page = open_page(report)
    key = chosen(page)
    for name, block in zip(
        report_tables, page.locator("#probabilities > div").all()
    ):
        row = report_tables[name].loc[key]
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
    row = report_tables["ce/1"].loc[key]
    facts = page.locator("#about").inner_text()
    assert row["recording"] in facts and row["patient"] in facts
    assert f"{row['age']:g} years" in facts or np.isnan(row["age"])
    page.fill("[name=to]", "")
    page.select_option("[name=order]", "quality")
    page.locator(".row").last.click()  # not measured
    assert chosen(page) in UNMEASURED
    assert "quality n/a" in page.locator("#probabilities").inner_text()


def test_sound_plays_to_its_end_by_keys(open_page, report):
    page = open_page(report)
    page.check("[name=sound]")
    assert len(listed(page)) == SOUNDS
    page.focus("#list")
    page.keyboard.press(" ")
    left = "parseFloat(document.querySelector('.playhead').style.left)"
    wait_until(page, f"{left} > 10")
    wait_until(page, "document.querySelector('#player').ended")
    state = page.locator("#player").evaluate(
        "p => [p.error, p.duration, p.paused]"
    )
    assert state[0] is None
    assert state[1] == pytest.approx(1.0, abs=0.2)
    # Again, and stop; a busy machine is to see it before it is over.
    page.evaluate("document.querySelector('#player').loop = true")
    page.keyboard.press(" ")
    wait_until(page, "!document.querySelector('#player').paused")
    page.keyboard.press(" ")
    wait_until(page, "document.querySelector('#player').paused")


def test_every_sound_and_picture_can_be_decoded(open_page, report):
    page = open_page(report)
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


def test_a_cycle_without_sound_says_so(open_page, report):
    page = open_page(report)
    marks = page.locator(".row > div:last-child > span").all_text_contents()
    page.locator(".row").nth(marks.index("")).click()
    assert not page.locator("#player").is_visible()
    assert not page.locator("#spectrogram").is_visible()
    assert "not in this page" in page.locator("#sound-note").text_content()
    page.keyboard.press(" ")  # nothing to play, and no error


def test_keys_go_through_the_list(open_page, report, width):
    page = open_page(report, width)
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


def test_map_names_a_cycle_and_leads_to_it(
    open_page, report, report_tables, width
):
    page = open_page(report, width)
    dots = page.locator(".map").nth(1).locator(".dot")
    assert dots.count() == 48
    place = 40
    key = list(report_tables["ce/1"].index)[place]
    dots.nth(place).scroll_into_view_if_needed()
    dots.nth(place).hover(force=True)
    said = page.locator("#pointed").text_content()
    assert said.startswith(f"{key}, ")
    for name, table in report_tables.items():
        row = table.loc[key]
        text = f"{name} says {row['prediction']} ({row['confidence']:.2f})"
        assert text in said
    dots.nth(place).click(force=True)
    assert chosen(page) == key
    assert page.evaluate("document.activeElement.id") == "list"
    for ring in page.locator(".ring").all():
        assert ring.get_attribute("visibility") == "visible"
    # Hollow is what the run of the map is wrong about.
    for table, figure in zip(
        report_tables.values(), page.locator(".map").all()
    ):
        wrong = figure.locator(".dot.wrong").count()
        assert wrong == int((~table["right"]).sum())


def test_map_by_keys(open_page, report):
    page = open_page(report)
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
