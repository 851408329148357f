"""Hand-made dialogues and a plain grid of turns (span end, rounded up) for the tests of the export."""

from datagen.config import Config
from datagen.export.tokens import TokenCounter
from datagen.records import (
    NO_REPLY,
    Answer,
    Boundary,
    Built,
    Caption,
    Dialogue,
    Question,
    Segment,
    Turn,
    Video,
    Watched,
)

INTERVAL = 2.0
COUNTER = TokenCounter(Config(name="samples"))


def answer(text, start, end, **more):
    return Answer(
        text=text,
        evidence=(f"s{start:g}",),
        evidence_start=start,
        evidence_end=end,
        reply_start=start,
        reply_end=end,
        **more,
    )


def question(text, ask_time, *answers, kind="narrate"):
    return Question(text=text, ask_time=ask_time, kind=kind, answers=answers)


def dialogue(*questions, id="v1#0", type="nQnA"):
    return Dialogue(id=id, video_id=id.split("#")[0], type=type, questions=questions, provenance="rule")


def monitoring(seconds, step=10.0, id="v1#0"):
    """One question at the start and an answer every `step` seconds, with gaps of two seconds."""
    starts = [k * step for k in range(int(seconds / step))]
    answers = [answer(f"Step {k} of {id} is done.", s, s + step - 2) for k, s in enumerate(starts)]
    return dialogue(question("What is being done?", 0.0, *answers), id=id, type="1QnA")


def grid(dialogue, frame_count, interval=INTERVAL, per_turn=2):
    """Turns of a video with each reply at the first turn at or after its span's end."""
    firsts = range(1, frame_count + 1, per_turn)
    cells = [(f, min(f + per_turn - 1, frame_count)) for f in firsts]
    times = [last * interval for _, last in cells]
    users = [None] * len(cells)
    texts = [NO_REPLY] * len(cells)

    def turn_at(time):
        return next((k for k, t in enumerate(times) if t >= time), None)

    for number, q in enumerate(dialogue.questions):
        asked = turn_at(q.ask_time)
        if asked is None:
            continue
        users[asked] = q.text
        later = [turn_at(n.ask_time) for n in dialogue.questions[number + 1 :]]
        until = later[0] if later and later[0] is not None else len(cells)
        for a in q.answers:
            at = asked if a.immediate else turn_at(max(a.reply_end, times[asked]))
            if at is not None and at < until and texts[at] == NO_REPLY:
                texts[at] = a.text
    return tuple(
        Turn(
            time=time,
            first_frame=first,
            last_frame=last,
            user=user,
            label="silent" if text == NO_REPLY else "reply",
            text=text,
        )
        for time, (first, last), user, text in zip(times, cells, users, texts, strict=True)
    )


def built(*dialogues, id="v1", frames=30, rejected=(), source="live_whisperx"):
    duration = (frames + 0.5) * INTERVAL
    video = Video(
        id=id,
        digest="0" * 32,
        name=f"clips/{id}.mp4",
        duration=duration + 1,
        fps=25.0,
        width=640,
        height=360,
        codec="h264",
        source=source,
    )
    watched = Watched(
        duration=duration,
        frame_count=frames,
        boundaries=(Boundary(4.0, 4.0, "cut", 0.9), Boundary(8.0, 8.5, "dissolve", 0.4)),
    )
    segments = (
        Segment(id=f"{id}-a", video_id=id, start=0.0, end=4.0, method="scenes"),
        Segment(id=f"{id}-b", video_id=id, start=4.0, end=8.0, method="scenes", boundary="cut"),
    )
    captions = (
        Caption(
            segment_id=f"{id}-a", seen="A red box.", heard=None, provenance="pixels", traits={"colour": "red"}
        ),
    )
    return Built(
        video=video,
        watched=watched,
        segments=segments,
        captions=captions,
        dialogues=dialogues,
        rejected=tuple(rejected),
    )
