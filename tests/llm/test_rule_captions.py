from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.config import SegmentOptions
from datagen.llm.rule_captions import share_out
from datagen.llm.wordings import wordings
from datagen.records import Boundary, Narration, Segment
from tests.llm.material import make, measures, steps, talk


def segments(*edges):
    return tuple(
        Segment(id=f"v1:{a}-{b}", video_id="v1", start=a, end=b, method="uniform") for a, b in pairwise(edges)
    )


def said(start, end, text, words=()):
    return Narration(start=start, end=end, text=text, modality="audio", kind="speech", words=words)


def test_narrations_are_seen_and_speech_is_heard():
    both = make((*steps(((3, 9, "stir the soup"),)), *talk(((4, 8, "Now we stir."),)))).captions[0]
    assert (both.seen, both.heard) == ("Stir the soup.", "Now we stir.")
    assert both.provenance == "sidecar:coin" and both.keys == ("0",)


def test_a_mistake_is_kept():
    wrong = Narration(start=3, end=9, text="Drop it.", modality="visual", kind="step", mistake=True, key="7")
    made = make((wrong, *steps(((12, 20, "Stir."),))))
    assert [c.mistake for c in made.captions] == [True, False]
    assert made.captions[0].keys == ("7",)


def test_where_nothing_was_written_the_pictures_speak():
    (caption,) = make(talk(((1, 9, "Hello there."),)), 10, measured=measures(["green"] * 10)).captions
    assert caption.heard == "Hello there." and "green" in caption.seen
    assert caption.provenance == "sidecar:coin"
    (alone,) = make((), 10, measured=measures(["green"] * 10)).captions
    assert alone.provenance == "pixels" and alone.heard is None and alone.keys == ()


def test_measures_become_true_sentences():
    rows = [("green", 0.8, 0.0)] * 10 + [("blue", 0.1, 0.06)] * 10
    (caption,) = make((), 20, measured=measures(rows), segment=SegmentOptions("uniform", 4, 40)).captions
    assert caption.traits["light"] == "bright to dark"
    assert caption.traits["colour"] == "green to blue"
    assert caption.traits["motion"] == "still to lively"
    for word in ("green", "blue", "dark"):
        assert word in caption.seen


def test_one_colour_is_named_only_where_it_holds_most_of_the_picture():
    few = [replace(m, colour_share=0.3) for m in measures(["green"] * 8)]
    (mixed,) = make((), 8, measured=few).captions
    assert mixed.traits["colour"] == "mixed" and "green" not in mixed.seen


def test_where_nothing_was_measured_nothing_is_said():
    (caption,) = make((), 8).captions
    assert caption.seen is None and caption.traits == {}


def test_values_near_a_threshold_are_no_change():
    rows = [("green", 0.6 + 0.02 * (-1) ** i, 0.02 + 0.001 * (-1) ** i) for i in range(10)]
    (caption,) = make((), 10, measured=measures(rows)).captions
    assert " to " not in "".join(caption.traits.values())


def test_a_cut_is_no_movement():
    rows = [("green", 0.5, 0.0)] * 10 + [("green", 0.5, 0.2)] + [("green", 0.5, 0.0)] * 9
    made = make((), 20, cuts=[10.5], measured=measures(rows))
    assert {c.traits["motion"] for c in made.captions} == {"still"}


def test_a_shot_change_at_the_start_is_told_by_its_kind():
    made = make((), 40, cuts=[10, Boundary(25, 26, "dissolve")], measured=measures(["green"] * 40))
    assert [c.traits.get("boundary") for c in made.captions] == [None, "cut", "dissolve"]
    assert made.captions[1].seen.startswith(tuple(wordings()["view_cut"]))


def test_measures_across_the_edge_of_a_segment_say_nothing_of_it():
    rows = measures(["green"] * 10 + ["blue"] * 10)
    early, late = make((), 20, cuts=[9.5], measured=rows).captions
    assert early.traits["colour"] == "green"
    assert late.traits["colour"] == "blue"


def test_a_narration_belongs_to_the_segment_in_which_it_ends():
    told = steps(((2, 11, "a"), (4, 5, "b"), (10, 10, "c"), (19, 20, "d"), (25, 31, "e")))
    shared, lost = share_out(segments(0, 10, 20, 30), told)
    assert [[n.text for n in own] for own in shared] == [["b"], ["a", "c", "d"], []]
    assert [n.text for n in lost] == ["e"]


def test_words_with_times_go_where_they_were_said():
    words = ((8.0, 9.0, "one"), (9.0, 10.0, "two"), (10.0, 11.0, "three"))
    shared, _ = share_out(segments(0, 10, 20), [said(8, 11, "one two three", words)])
    assert [[(n.text, n.start, n.end) for n in own] for own in shared] == [
        [("one two", 8.0, 10.0)],
        [("three", 10.0, 11.0)],
    ]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=20))
def test_no_narration_is_told_twice_or_before_it_ends(spans):
    told = steps([(a, min(60, a + n), f"x{i}") for i, (a, n) in enumerate(spans)])
    parts = segments(0, 7, 20, 33, 60)
    shared, lost = share_out(parts, told)
    assert sorted(n.text for own in (*shared, lost) for n in own) == sorted(n.text for n in told)
    assert all(n.end <= segment.end for segment, own in zip(parts, shared, strict=True) for n in own)


def test_other_languages_are_kept_whole():
    rows = ((0, 8, "切西红柿"), (8, 16, "हिन्दी में पानी डालो।"), (16, 24, "اسكب الماء"), (24, 32, "🙂"))
    seen = [caption.seen for caption in make(steps(rows), 32).captions]
    assert seen == ["切西红柿。", "हिन्दी में पानी डालो।", "اسكب الماء.", "🙂."]


def test_wordings_never_speak_of_their_making():
    banned = ("caption", "segment", "clip", "frame", "described", "transcript", "video")
    lines = [line.lower() for lines in wordings().values() for line in lines]
    assert not [line for line in lines if any(word in line for word in banned)]
