from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.inspect.report_plots import bars, heat, lying_bars, shares

NAMES = st.lists(
    st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), max_size=40), min_size=1, max_size=8
)


def rects(svg):
    found = ElementTree.fromstring(str(svg)).iter("rect")
    return [
        {name: float(r.get(name)) for name in ("x", "y", "width", "height", "fill-opacity")} for r in found
    ]


def test_bars_are_as_high_as_their_values_and_stand_side_by_side():
    one, two, three, four = rects(bars(["a", "b"], [("x", [0.5, 0.25]), ("y", [0.0, 1.0])], "turns"))
    assert abs(one["height"] - 2 * two["height"]) < 0.2 and three["height"] == 0
    assert abs(four["height"] - 4 * two["height"]) < 0.2
    assert one["x"] < three["x"] < two["x"] < four["x"]
    assert len({round(r["y"] + r["height"], 0) for r in (one, two, three, four)}) == 1


def test_values_below_zero_lie_to_the_left_of_it():
    up, down = rects(lying_bars(["a", "b"], [("x", [1.0, -0.5])]))
    assert abs(up["width"] - 2 * down["width"]) < 0.2
    assert abs(up["x"] - (down["x"] + down["width"])) < 0.2


def test_cells_are_fullest_where_their_row_is_highest():
    low, high, only, none = rects(heat(["a", "b"], ["x", "y"], [[1, 4], [2, 0]], "tenths"))
    assert low["fill-opacity"] < high["fill-opacity"] == only["fill-opacity"] > none["fill-opacity"]
    assert shares([1, 3]) == [0.25, 0.75] and shares([0, 0]) == [0, 0]


@given(NAMES, st.data())
@settings(max_examples=40, deadline=None)
def test_any_name_gives_a_well_formed_plot_that_shows_it(names, data):
    counts = data.draw(st.lists(st.integers(0, 10**6), min_size=len(names), max_size=len(names)))
    for svg in (
        bars(names, [("x", shares(counts))], "y"),
        lying_bars(names, [("x", counts)]),
        heat(names, ["c"], [[count] for count in counts], "y"),
    ):
        titles = [title.text or "" for title in ElementTree.fromstring(str(svg)).iter("title")]
        assert all(any(name in title for title in titles) for name in names)
