import pytest

from datagen.export.pauc import Span
from datagen.inspect.forecast import Forecast, score
from datagen.inspect.policies import POLICIES, TRIVIAL, TRUTH
from datagen.inspect.windows import Window
from datagen.records import NO_REPLY

SPANS = (
    Span(4.0, 16.0, "What now?", "Two eggs are cracked into a bowl."),
    Span(16.001, 24.0, "What now?", "A whisk beats them until foam forms."),
)
TIMES = (4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0)


def window(spans=SPANS, earlier=(), placed=None, **more):
    values = {
        "id": "v1#0#seg0",
        "times": TIMES,
        "questions": ("What now?",) * len(TIMES),
        "captions": ("Eggs.", "Eggs.", "Eggs.", "Eggs.", "Foam.", "Foam.", ""),
        "spans": spans,
        "earlier": earlier,
        "placed": placed,
    }
    return Window(**(values | more))


def said(policy, w):
    return {time: text for time, text in zip(w.times, POLICIES[policy](w), strict=True) if text != NO_REPLY}


@pytest.mark.parametrize(
    ("share", "turns"),
    [
        ("start", [4, 20]),
        ("25%", [8, 20]),
        ("50%", [12, 24]),
        ("62.5%", [12, 24]),
        ("75%", [16, 24]),
        ("end", [16, 24]),
    ],
)
def test_the_truth_comes_at_the_first_turn_that_has_seen_its_share(share, turns):
    assert said(f"truth at {share}", window()) == dict(zip(turns, (s.text for s in SPANS), strict=True))


def test_what_the_trivial_policies_say():
    w = window()
    assert said("silent", w) == {}
    assert len(set(said("always talking", w).values())) == len(TIMES)
    assert said("caption parrot", w) == dict(zip(TIMES, w.captions[:6], strict=False))
    assert set(said("question echo", window(questions=("",) * 6 + ("Why?",))).items()) == {(28.0, "Why?")}
    assert said("first answer again", w) == dict.fromkeys(TIMES, SPANS[0].text)
    assert said("first answer again", window(earlier=("Hello.",))) == dict.fromkeys(TIMES, "Hello.")
    assert said("first answer again", window(spans=SPANS[1:])) == dict.fromkeys(TIMES[4:], SPANS[1].text)


def test_the_truth_beats_all_that_is_trivial_under_every_setting():
    for setting in ("paper", "released", "benchmark"):
        found = score(window(), setting)
        assert max(found[name].total for name in TRIVIAL) < found["truth at start"].total - 0.3
        earned = [found[name].total for name in TRUTH]
        assert earned == sorted(earned, reverse=True)
    assert score(window(), "released")["truth at start"].spans[0] == 1
    assert score(window(), "paper")["silent"].pauc == 0.125


def test_the_dialogues_own_placement_is_scored_where_it_is_known():
    placed = tuple(SPANS[0].text if time == 16 else NO_REPLY for time in TIMES)
    found = score(window(placed=placed), "paper")["truth as placed"]
    assert found.spans == (0.125, 0.125)
    assert "truth as placed" not in score(window(), "paper")


def test_a_window_that_repeats_or_comes_late_is_dead_and_names_why():
    late = (Span(12.5, 16.0, "What now?", "A whisk beats them."),)
    forecast = Forecast()
    forecast.add(window())
    forecast.add(window(spans=late, earlier=(late[0].text,), id="again"))
    assert {(d.id, d.setting, d.why) for d in forecast.dead} == {
        ("again", "released", "the true replies repeat earlier ones"),
        ("again", "paper", "no turn comes early enough"),
        ("again", "benchmark", "no turn comes early enough"),
    }


def test_a_window_whose_only_turn_comes_at_the_end_of_its_span_is_dead_without_a_floor():
    forecast = Forecast()
    forecast.add(window(spans=(Span(12.5, 16.0, "What now?", "A whisk beats them."),)))
    assert {(d.setting, d.why) for d in forecast.dead} == {
        ("paper", "no turn comes early enough"),
        ("benchmark", "no turn comes early enough"),
    }


def test_a_trivial_policy_that_reaches_the_truth_is_told():
    # Nothing is due but one sentence that the prompt has already: to say it at every turn is as good.
    spans = (Span(4.0, 28.0, "What?", "Still here."),)
    forecast = Forecast()
    for number in range(3):
        forecast.add(window(spans=spans, earlier=("Still here.",), id=f"w{number}"))
    assert any(line.startswith("released: `first answer again` earns") for line in forecast.verdicts())
    assert {tie.id for tie in forecast.ties} == {"w0", "w1", "w2"}
    wide = Forecast(margin=100.0)
    wide.add(window())
    assert len(wide.verdicts()) == 3 * len(TRIVIAL)


def test_means_are_means():
    forecast = Forecast()
    others = [window(), window(spans=SPANS[1:]), window(earlier=("Before.",))]
    for w in others:
        forecast.add(w)
    for policy in TRUTH:
        totals = [score(w, "released")[policy].total for w in others]
        assert forecast.earned["released"][policy].reward == pytest.approx(sum(totals) / 3)
