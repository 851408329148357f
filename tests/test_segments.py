from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import SegmentOptions
from datagen.records import Boundary, Narration, Sidecar, Video, Watched
from datagen.segments import aligned, make_segments

VIDEO = Video(
    id="v1", digest="0" * 32, name="a.mp4", duration=60.0, fps=30.0, width=640, height=360, codec="h264"
)


def video(**changes):
    values = {f: getattr(VIDEO, f) for f in VIDEO.__struct_fields__} | changes
    return Video(**values)


def watched(duration=60.0, cuts=()):
    return Watched(duration=duration, boundaries=tuple(Boundary(t, t) for t in cuts))


def seen(start, end, text="Stir.", **more):
    return Narration(start=start, end=end, text=text, modality="visual", kind="step", **more)


def said(start, end, text="Hello there.", words=()):
    return Narration(start=start, end=end, text=text, modality="audio", kind="speech", words=words)


def cut(*narrations, duration=60.0, cuts=(), **options):
    sidecar = Sidecar(format="x", narrations=narrations) if narrations else None
    segments, rejected = make_segments(VIDEO, watched(duration, cuts), sidecar, SegmentOptions(**options))
    return [(s.start, s.end) for s in segments], {s.method for s in segments}, rejected


times = st.one_of(st.floats(-20, 90), st.sampled_from([0.0, 4.0, 10.0, 59.999, 60.0, 1e300, -1e300]))


@st.composite
def narrations(draw):
    start, end = draw(times), draw(times)
    modality = draw(st.sampled_from(["visual", "audio"]))
    text = draw(st.sampled_from(["", "One. Two", "A sentence.", "no stop", "你好。", "🙂", "هل؟"]))
    words = draw(st.lists(st.tuples(times, times, st.sampled_from(["Yes.", "and", " so"])), max_size=6))
    return Narration(start=start, end=end, text=text, modality=modality, kind="speech", words=tuple(words))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(narrations(), max_size=12),
    st.lists(st.floats(0, 70), max_size=12),
    st.floats(0.002, 60),
    st.sampled_from(["auto", "scenes", "sentences", "annotations", "uniform"]),
    st.sampled_from([(4.0, 20.0), (0.04, 0.08), (5.0, 10.0), (1.5, 50.0)]),
    st.floats(0, 3),
    st.sampled_from([0.0, 5.5]),
)
def test_segments_keep_every_promise(told, cuts, duration, method, lengths, pause, offset):
    low, high = lengths
    options = SegmentOptions(method=method, min_seconds=low, max_seconds=high, pause_seconds=pause)
    clip, seen_all = video(offset=offset, audio_lead=0.02), watched(duration, cuts)
    sidecar = Sidecar(format="x", narrations=tuple(told))
    segments, rejected = make_segments(clip, seen_all, sidecar, options)
    assert segments
    for segment in segments:
        assert 0 <= segment.start < segment.end <= duration
        assert round(segment.start, 3) == segment.start and round(segment.end, 3) == segment.end
        assert segment.end - segment.start <= high + 1e-9
        assert segment.id == f"v1:{round(segment.start * 1000):07d}-{round(segment.end * 1000):07d}"
        if segment.end - segment.start < low - 1e-9:
            # A video not a millisecond longer than the shortest segment counts as shorter.
            assert len(segments) == 1 and segment.end >= duration - 0.001
    assert all(a.end <= b.start for a, b in pairwise(segments))
    assert len({segment.id for segment in segments}) == len(segments)
    kept = aligned(clip, seen_all, sidecar)
    assert len(kept) + len(rejected) == len(told) or offset
    assert all(0 <= n.start <= n.end <= duration for n in kept)
    assert all(0 <= a <= b <= duration for n in kept for a, b, _ in n.words)
    assert make_segments(clip, seen_all, sidecar, options) == (segments, rejected)


def test_auto_uses_the_best_evidence_there_is():
    assert cut(seen(3, 9), said(20, 26), cuts=[30])[1] == {"annotations"}
    assert cut(said(20, 26), cuts=[30])[1] == {"sentences"}
    assert cut(cuts=[30])[1] == {"scenes"}
    assert cut()[1] == {"uniform"}


def test_a_method_without_evidence_gives_way_to_the_next():
    assert cut(cuts=[30], method="annotations")[1] == {"scenes"}
    assert cut(seen(3, 9), method="sentences")[1] == {"uniform"}
    assert cut(seen(3, 9), method="scenes")[1] == {"uniform"}


def test_scenes_lie_between_boundaries_and_name_the_kind_of_change():
    seen_all = Watched(duration=40.0, boundaries=(Boundary(10.0, 10.0), Boundary(24.0, 25.0, "dissolve")))
    segments, _ = make_segments(VIDEO, seen_all, None, SegmentOptions())
    assert [(s.start, s.end, s.boundary) for s in segments] == [
        (0.0, 10.0, None),
        (10.0, 24.0, "cut"),
        (24.0, 40.0, "dissolve"),
    ]


def test_short_shots_join_the_shorter_neighbour_and_long_ones_are_cut_in_equal_parts():
    assert cut(duration=60.0, cuts=[12.0, 14.0, 20.0])[0] == [
        (0.0, 12.0),
        (12.0, 20.0),
        (20.0, 40.0),
        (40.0, 60.0),
    ]


def test_uniform_parts_are_equal():
    assert cut(duration=60.0)[0] == [(0, 12), (12, 24), (24, 36), (36, 48), (48, 60)]
    assert cut(duration=3.0)[0] == [(0, 3)]


def test_sentences_join_cues_and_end_at_final_punctuation_or_a_pause():
    spans, methods, _ = cut(
        said(1, 3, "We take the wheel"),
        said(3, 6.5, "off the bike."),
        said(6.6, 11, "Then it goes on"),
        said(13, 18, "the stand."),
    )
    assert methods == {"sentences"}
    assert spans == [(1, 6.5), (6.6, 11), (13, 18)]


def test_a_full_stop_before_a_small_letter_ends_no_sentence():
    assert cut(said(1, 6, "It takes approx."), said(6, 11, "five minutes."))[0] == [(1, 11)]


def test_sentences_end_in_any_script():
    assert cut(said(1, 6, "我们开始。"), said(6, 11, "然后结束。"))[0] == [(1, 6), (6, 11)]
    assert cut(said(1, 6, "هل أنت هنا؟"), said(6, 11, "نعم أنا هنا."))[0] == [(1, 6), (6, 11)]


def test_long_speech_without_punctuation_is_cut_between_words():
    words = tuple((i * 0.7, i * 0.7 + 0.5, "word") for i in range(60))
    spans, _, _ = cut(said(0, 42, "word " * 60, words))
    ends = {round(b, 3) for _, b, _ in words}
    assert len(spans) == 3
    assert all(end in ends for _, end in spans)


def test_a_short_sentence_alone_is_extended_rather_than_lost():
    assert cut(said(20, 21))[0] == [(20, 24)]
    assert cut(said(59, 60))[0] == [(56, 60)]


def test_points_last_until_the_next_but_no_longer_than_a_segment():
    assert cut(seen(5, 5), seen(11, 11), duration=60.0)[0] == [(5, 11), (11, 31)]


def test_overlapping_annotations_are_laid_end_to_end_and_nested_ones_are_one():
    assert cut(seen(0, 10), seen(8, 14), seen(20, 30), seen(22, 25))[0] == [(0, 10), (10, 14), (20, 30)]


def test_fine_annotations_are_merged():
    assert cut(seen(0, 2), seen(2, 4.5), seen(5, 7))[0] == [(0, 7)]


def test_times_of_the_file_are_shifted_to_those_of_the_video():
    told = (seen(1, 9, key="before"), seen(9, 15, key="partly"), seen(20.5, 26, key="inside"))
    sidecar = Sidecar(format="x", narrations=told)
    span = video(offset=10.0, audio_lead=0.5)
    kept = aligned(span, watched(30.0), sidecar)
    assert [(n.key, n.start, n.end) for n in kept] == [("partly", 0.0, 4.5), ("inside", 10.0, 15.5)]
    assert make_segments(span, watched(30.0), sidecar, SegmentOptions())[1] == ()


def test_a_narration_outside_a_whole_file_has_a_row():
    rows = cut(seen(5, 12), seen(70, 80, "Serve.", key="17"))[2]
    assert [(r.stage, r.code, r.item_id) for r in rows] == [("segment", "Invalid", "v1/narration/17")]
    assert "70-80 s" in rows[0].detail and "Serve." in rows[0].detail


def test_only_the_words_inside_a_span_are_kept():
    words = ((8.0, 8.5, "Before."), (10.2, 10.6, "After"), (10.6, 11.0, "all."))
    sidecar = Sidecar(format="x", narrations=(said(8, 11, "Before. After all.", words),))
    (kept,) = aligned(video(offset=10.0), watched(30.0), sidecar)
    assert kept.text == "After all."
    assert kept.words == ((0.2, 0.6, "After"), (0.6, 1.0, "all."))


def test_a_video_without_length_is_rejected():
    segments, rows = make_segments(VIDEO, watched(0.0), None, SegmentOptions())
    assert segments == () and [r.code for r in rows] == ["Corrupt"]


def test_many_boundaries_and_words_take_little_time():
    cuts = [0.51 * i for i in range(1, 20000)]
    words = tuple((i * 0.2, i * 0.2 + 0.1, "word") for i in range(50000))
    assert len(cut(duration=10200.0, cuts=cuts)[0]) >= 500
    assert len(cut(said(0, 10000, "word", words), duration=10200.0, cuts=cuts)[0]) >= 500
