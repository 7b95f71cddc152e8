"""SVG as text, to stand in a page.

Authors
 * qlung_plugin contributors
"""

from html import escape


def tag(name: str, *inside: str, **attributes: float | str) -> str:
    """An element of SVG.

    Example
    -------
    >>> tag("g", text("<b>", 1, 2, class_="end"), stroke_width=0.5)
    '<g stroke-width="0.50"><text x="1.00" y="2.00" class="end">&lt;b&gt;</text></g>'
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="'
        f'{escape(value) if isinstance(value, str) else f"{value:.2f}"}"'
        for key, value in attributes.items()
    )
    return f"<{name}{pairs}>{''.join(inside)}</{name}>"


def text(words: str, x: float, y: float, **attributes: float | str) -> str:
    """A text of SVG, in which nothing is markup."""
    return tag("text", escape(words), x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A line of SVG, which its class gives a colour."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)
