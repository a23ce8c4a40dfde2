"""Loss curves as one inline SVG, coloured by the page's own style sheet: no raster, no script, no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34
MANY_POINTS = 60  # beyond it the raw line is faint and a running mean is drawn over it


@dataclass(frozen=True)
class Curve:
    """Points of one line, by step."""

    label: str
    points: tuple[tuple[float, float], ...]
    is_dev: bool = False  # drawn dashed, with dots


def log_curves(label: str, lines: Sequence[dict[str, Any]]) -> list[Curve]:
    """Training and dev loss of one log; what is missing or not finite leaves no point."""
    curves = []
    for key, name, is_dev in (("loss", "training", False), ("eval_loss", "dev", True)):
        points = [
            (float(line["step"]), float(line[key]))
            for line in lines
            if _is_finite(line.get("step")) and _is_finite(line.get(key))
        ]
        if points:
            curves.append(Curve(f"{label}, {name}", tuple(points), is_dev))
    return curves


def curves_svg(curves: Sequence[Curve]) -> str:
    """One SVG with all curves, loss over step; "" where there is no point."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return ""
    x_low, x_high = _widened(min(x for x, _ in points), max(x for x, _ in points))
    y_low, y_high = _widened(min(y for _, y in points), max(y for _, y in points))
    y_ticks = _ticks(y_low, y_high)
    y_low, y_high = min(y_low, y_ticks[0]), max(y_high, y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        along = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(along, 1), round(up, 1)

    drawn = []
    for tick in y_ticks:
        y = place(x_low, tick)[1]
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(x_low, x_high):
        if x_low <= tick <= x_high:
            x = place(tick, y_low)[0]
            drawn.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{tick:g}</text>')
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">step</text>')
    for number, curve in enumerate(curves):
        placed = [place(x, y) for x, y in curve.points]
        drawn += _line(placed, number, curve)
        if len(placed) > MANY_POINTS and not curve.is_dev:
            drawn.append(f'<polyline class="line run{number}" points="{_joined(_running_mean(placed))}"/>')
    said = "; ".join(f"{c.label} from {c.points[0][1]:.3g} to {c.points[-1][1]:.3g}" for c in curves)
    label = escape(f"Loss over steps: {said}")
    opening = f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return f"{opening}{''.join(drawn)}</svg>"


def _line(placed: Sequence[tuple[float, float]], number: int, curve: Curve) -> list[str]:
    kind = "dev" if curve.is_dev else "faint" if len(placed) > MANY_POINTS else "line"
    drawn = [
        f'<polyline class="{kind} run{number}" points="{_joined(placed)}"><title>{escape(curve.label)}</title></polyline>'
    ]
    if curve.is_dev or len(placed) == 1:
        drawn += [f'<circle class="dot run{number}" cx="{x}" cy="{y}" r="3"/>' for x, y in placed]
    return drawn


def _joined(placed: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in placed)


def _running_mean(placed: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of up to a 25th of all points to each side."""
    reach = max(1, len(placed) // 50)
    smooth = []
    for index, (x, _) in enumerate(placed):
        near = placed[max(0, index - reach) : index + reach + 1]
        smooth.append((x, round(sum(y for _, y in near) / len(near), 1)))
    return smooth


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _widened(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, n_wanted: int = 5) -> list[float]:
    """Round numbers that cover [low, high]: steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / n_wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]
