"""What tests read off the page of runs.

Authors
 * qlung_plugin contributors
"""

import time

UNMEASURED = {"003_1b1_002", "004_1b1_001"}  # cycles without a quality
SOUNDS = 30  # cycles with a sound


def listed(page):
    """The ids in the list, in order."""
    texts = page.locator(".row small").all_text_contents()
    return [text.split(" · ")[-1] for text in texts]


def wait_until(page, condition, seconds=60):
    """Waits for a condition; playwright's own way is what the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def chosen(page):
    return page.locator("#cycle-name").text_content()
