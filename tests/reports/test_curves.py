"""The loss curve as SVG."""

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from groundql.reports.curves import Curve, curves_svg, log_curves

SVG = "{http://www.w3.org/2000/svg}"


def _tree(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_training_and_dev_loss_are_two_curves_and_what_is_not_finite_leaves_no_point():
    lines = [
        {"step": 10, "loss": 2.0},
        {"step": 15, "loss": None},
        {"step": 20, "eval_loss": 1.5},
        {"step": 20, "x": 1},
    ]
    assert log_curves("run", lines) == [
        Curve("run, training", ((10.0, 2.0),)),
        Curve("run, dev", ((20.0, 1.5),), is_dev=True),
    ]


def test_no_points_give_no_picture():
    assert curves_svg([]) == ""


def test_the_first_point_is_left_and_a_lower_loss_is_lower():
    (line,) = _tree(curves_svg([Curve("loss", ((0, 3.0), (100, 1.0)))])).iter(f"{SVG}polyline")
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in line.get("points", "").split())
    assert x0 < x1
    assert y0 < y1  # SVG counts downwards


def test_the_picture_says_in_words_where_the_curve_starts_and_ends():
    svg = curves_svg([Curve('a "run" <x>', ((0, 3.0), (100, 1.0)))])
    assert _tree(svg).get("aria-label") == 'Loss over steps: a "run" <x> from 3 to 1'


numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)


@given(st.lists(st.tuples(st.integers(0, 10**7), numbers), min_size=1, max_size=80))
def test_any_points_stay_inside_the_picture(points):
    for line in _tree(curves_svg([Curve("loss", tuple(points))])).iter(f"{SVG}polyline"):
        for point in line.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 720
            assert 0 <= y <= 260
