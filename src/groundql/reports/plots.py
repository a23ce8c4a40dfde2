"""Plots as SVG text for pages: colours and font are the page's own, so that they follow light and dark."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from html import escape

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_IN = 4.6  # at 10 pt readable on a phone, where the plot is as wide as the screen
BAR_HEIGHT_IN = 0.24
# Stand-ins that are replaced by CSS variables of the page once the SVG is written.
INK, BAR, FAINT = "#010203", "#040506", "#070809"
_VARIABLES = {INK: "var(--ink)", BAR: "var(--bar)", FAINT: "var(--line)"}
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a `$` in a name is a dollar
    "svg.hashsalt": "groundql",  # the same plot gives the same bytes
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def bars(name: str, title: str, counts: Mapping[str, int], *, n_all: int | None = None) -> str:
    """Horizontal bars, the first at the top, each with its count, and its share of `n_all` where that is given.

    `name` keeps ids apart when several plots stand in one page.
    """
    labels, values = list(counts), list(counts.values())
    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.3 + BAR_HEIGHT_IN * max(1, len(labels))), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(labels)), values, height=0.72, color=BAR)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlim(0, max([1, *values]) * (1.35 if n_all else 1.2))
        for place, value in enumerate(values):
            text = f"{value:,}" + (f" · {value / n_all:.1%}" if n_all else "")
            axes.annotate(text, (value, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks([])
        return _svg(figure, name, title)


def histogram(
    name: str,
    title: str,
    bin_edges: Sequence[float],
    bin_counts: Sequence[int],
    *,
    unit: str,
    marks: Mapping[str, float],
) -> str:
    """Columns over bins, with a line at each of `marks` (median, a limit) and its name in the legend."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.3), layout="constrained")
        axes = figure.add_subplot()
        widths = [right - left for left, right in zip(bin_edges, bin_edges[1:], strict=False)]
        axes.bar(
            bin_edges[:-1], bin_counts, width=widths, align="edge", color=BAR, edgecolor="none", linewidth=0
        )
        for (label, place), line in zip(marks.items(), ("-", "--", ":"), strict=False):
            axes.axvline(place, color=INK, linewidth=1, linestyle=line, label=f"{label} {place:,.0f}")
        axes.set_xlabel(unit)
        axes.set_ylabel("count")
        _thousands(axes)
        if marks:
            axes.legend(
                frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=len(marks)
            )
        return _svg(figure, name, title)


def columns(name: str, title: str, counts: Mapping[int, int], *, unit: str) -> str:
    """A column for each whole number that occurs, with its count on top."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.0), layout="constrained")
        axes = figure.add_subplot()
        places = axes.bar(list(counts), list(counts.values()), width=0.72, color=BAR)
        axes.bar_label(places, labels=[f"{count:,}" for count in counts.values()], padding=2, fontsize=9)
        axes.set_xticks(list(counts))
        axes.set_xlabel(unit)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(y=0.15)
        return _svg(figure, name, title)


def _thousands(axes: Axes) -> None:
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="y", nbins=4, integer=True)
    axes.locator_params(axis="x", nbins=6, integer=True)


def _svg(figure: Figure, name: str, title: str) -> str:
    """The figure as one <svg> element without a fixed size, its ids prefixed with `name`."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's own font draws the text
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL
    )  # a <style> would rule the whole page
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    head = re.match(r"<svg[^>]*>", text)
    assert head is not None
    view_box = re.search(r'viewBox="[^"]*"', head.group())
    assert view_box is not None
    opening = f'<svg {view_box.group()} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img">'
    return f"{opening}<title>{escape(title)}</title>{text[head.end() :]}"
