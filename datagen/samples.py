"""Four short videos drawn by ourselves, so that the first command works with nothing to download.

Every picture is drawn from the same script that the sidecars are written from; so what they say is true.
"""

import json
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
from PIL import Image, ImageDraw

_FPS = 12
_SIZE = (320, 240)
_VERSION = "2"

MANIFEST = "samples.csv"
"""Names the videos and their licence."""

_LICENCE = "cc0-1.0"
"""Nobody needs to ask us for what the code of this file draws."""

Colour = tuple[int, int, int]

RED, BLUE, GREEN, YELLOW = (205, 45, 40), (40, 80, 200), (50, 150, 70), (235, 200, 50)
ORANGE, PURPLE, WHITE, GREY = (235, 130, 30), (120, 50, 150), (240, 240, 235), (120, 125, 130)
BROWN, CREAM, DARK, SKY = (110, 70, 35), (240, 225, 190), (25, 25, 35), (120, 180, 225)


class Look(NamedTuple):
    """Where and how a shape is drawn, in pixels from the top left."""

    shape: str
    """circle, box or triangle."""
    x: float
    y: float
    width: float
    height: float
    colour: Colour


class Step(NamedTuple):
    """One thing that happens: the named shape changes evenly from start to end, as the text says."""

    start: float
    end: float
    name: str
    change: dict[str, float | Colour]
    text: str = ""


class Scene(NamedTuple):
    """A shot: shapes in order of drawing, and what happens to them, in seconds from its start."""

    seconds: float
    background: Colour
    looks: dict[str, Look]
    steps: tuple[Step, ...]
    fade_in: float = 0.0
    fade_out: float = 0.0


def _pizza() -> tuple[Scene, ...]:
    looks = {
        "board": Look("box", -120, 165, 200, 120, BROWN),
        "dough": Look("circle", 160, -40, 44, 44, CREAM),
        "sauce": Look("circle", 160, 165, 0, 0, RED),
        "cheese": Look("circle", 160, 165, 0, 0, YELLOW),
        "mushroom 1": Look("triangle", 135, -20, 18, 18, BROWN),
        "mushroom 2": Look("triangle", 180, -20, 18, 18, BROWN),
        "mushroom 3": Look("triangle", 160, -20, 18, 18, BROWN),
        "leaf 1": Look("circle", 340, 150, 16, 10, GREEN),
        "leaf 2": Look("circle", 340, 175, 16, 10, GREEN),
        "knife": Look("box", 160, -90, 8, 150, GREY),
        "lamp": Look("circle", 285, 35, 30, 30, DARK),
    }
    mushroom, leaf = "A brown mushroom lands on the pizza.", "A green leaf slides onto the pizza."
    lamp_on, lamp_off = "The lamp in the corner turns orange.", "The lamp in the corner goes dark."
    knife_down, knife_up = "A grey knife comes down on the pizza.", "The grey knife rises out of view."
    return (
        Scene(
            66,
            SKY,
            looks,
            (
                Step(1, 4, "board", {"x": 160.0}, "A brown board slides in from the left."),
                Step(5, 7, "dough", {"y": 165.0}, "A ball of pale dough drops onto the board."),
                Step(
                    8, 12, "dough", {"width": 112.0, "height": 112.0}, "The dough spreads into a wide disc."
                ),
                Step(14, 18, "sauce", {"width": 96.0, "height": 96.0}, "Red sauce spreads over the dough."),
                Step(
                    19,
                    22,
                    "cheese",
                    {"width": 84.0, "height": 84.0},
                    "Yellow cheese covers most of the sauce.",
                ),
                Step(24, 26, "mushroom 1", {"y": 150.0}, mushroom),
                Step(28, 30, "leaf 1", {"x": 150.0}, leaf),
                Step(32, 34, "mushroom 2", {"y": 160.0}, mushroom),
                Step(36, 38, "lamp", {"colour": ORANGE}, lamp_on),
                Step(40, 45, "cheese", {"colour": ORANGE}, "The yellow cheese slowly turns orange."),
                Step(46, 48, "lamp", {"colour": DARK}, lamp_off),
                Step(49, 51, "mushroom 3", {"y": 185.0}, mushroom),
                Step(52, 54, "leaf 2", {"x": 175.0}, leaf),
                Step(56, 58, "knife", {"y": 110.0}, knife_down),
                Step(58, 60, "knife", {"y": -90.0}, knife_up),
                Step(61, 63, "knife", {"y": 110.0}, knife_down),
                Step(63, 65, "knife", {"y": -90.0}, knife_up),
            ),
        ),
    )


def _race() -> tuple[Scene, ...]:
    looks = {
        "line": Look("box", 290, 130, 6, 180, WHITE),
        "red": Look("circle", 30, 75, 34, 34, RED),
        "blue": Look("circle", 30, 130, 34, 34, BLUE),
        "yellow": Look("circle", 30, 185, 34, 34, YELLOW),
    }
    nothing: dict[str, float | Colour] = {}
    return (
        Scene(
            48,
            GREEN,
            looks,
            (
                Step(0.5, 4, "line", nothing, "Welcome back, three balls are waiting on the left side."),
                Step(4.5, 9, "red", {"x": 130.0}, "And they are off, red rolls into an early lead!"),
                Step(9.5, 13, "blue", {"x": 130.0}, "Blue answers now, and it draws level with red."),
                Step(
                    14, 17, "line", nothing, "Yellow is still sitting at the start, what is it waiting for?"
                ),
                Step(17.5, 22, "red", {"x": 210.0}, "Red goes again, it wants to be alone in front."),
                Step(23, 27, "yellow", {"x": 240.0}, "Look at yellow, it shoots past both of them!"),
                Step(
                    28, 31, "line", nothing, "Nobody moves at the moment, they are all catching their breath."
                ),
                Step(
                    31.5, 35, "blue", {"x": 200.0}, "Blue is creeping forward, but it remains in last place."
                ),
                Step(36, 39, "yellow", {"x": 300.0}, "Yellow crosses the white line, yellow wins the race!"),
                Step(40, 43, "red", {"x": 300.0}, "Red follows it over the line for second place."),
                Step(44, 47, "line", nothing, "And blue stops short of the line, thanks for watching."),
            ),
        ),
    )


def _shapes() -> tuple[Scene, ...]:
    plan: list[tuple[float, Colour, str, Colour, tuple[float, float], tuple[float, float]]] = [
        (5.5, SKY, "circle", RED, (40, 120), (280, 120)),
        (4, DARK, "triangle", YELLOW, (160, 40), (160, 200)),
        (6, CREAM, "box", BLUE, (280, 60), (40, 180)),
        (3.5, PURPLE, "circle", WHITE, (60, 60), (260, 180)),
        (7, GREEN, "box", ORANGE, (60, 120), (200, 120)),
        (5, GREY, "triangle", GREEN, (280, 120), (40, 120)),
        (4.5, ORANGE, "circle", DARK, (160, 200), (160, 40)),
        (6.5, BLUE, "box", WHITE, (40, 40), (280, 200)),
    ]
    return tuple(
        Scene(
            seconds,
            background,
            {"it": Look(shape, *begin, 70, 70, colour)},
            (Step(0.5, seconds - 0.5, "it", {"x": end[0], "y": end[1]}),),
        )
        for seconds, background, shape, colour, begin, end in plan
    )


def _dawn() -> tuple[Scene, ...]:
    night: Colour = (20, 25, 60)
    land = {
        "sky": Look("box", 160, 120, 320, 240, night),
        "sun": Look("circle", 160, 230, 60, 60, ORANGE),
        "hill": Look("box", 160, 210, 320, 80, (30, 70, 40)),
    }
    sea = {"sea": Look("box", 160, 190, 320, 100, BLUE), "boat": Look("triangle", 100, 130, 50, 40, WHITE)}
    return (
        Scene(
            26,
            night,
            land,
            (Step(2, 22, "sky", {"colour": SKY}), Step(4, 24, "sun", {"y": 110.0, "colour": YELLOW})),
            fade_out=1.5,
        ),
        Scene(20, CREAM, sea, (Step(0, 20, "boat", {"x": 150.0}),), fade_in=1.5),
    )


def make_samples(folder: Path) -> Path:
    """Draw four videos of about a minute into `folder`, with sidecars, known cuts and a manifest; return it.

    Takes a few seconds the first time and none after that. An interrupted call is simply repeated.
    """
    done = folder / ".done"
    if done.is_file() and done.read_text(encoding="utf-8") == _VERSION:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"dawn": _dawn(), "pizza": _pizza(), "race": _race(), "shapes": _shapes()}
    for name, scenes in drawn.items():
        if name == "pizza":
            _write(folder / "pizza.vtt", _vtt(scenes[0].steps).encode())
        if name == "race":
            _write(folder / "race.srt", _srt(scenes[0].steps).encode())
        if len(scenes) > 1:
            _write(folder / f"{name}.mp4.cuts.json", _cuts(scenes).encode())
        part = folder / f".{name}.part"
        _encode(part, scenes)
        part.replace(folder / f"{name}.mp4")
    rows = [f"{name}.mp4,{_LICENCE},datagen samples" for name in drawn]
    _write(folder / MANIFEST, "\n".join(["path,licence,source", *rows, ""]).encode())
    _write(done, _VERSION.encode())
    return folder


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _encode(path: Path, scenes: tuple[Scene, ...]) -> None:
    base = Fraction(1, _FPS)
    with av.open(str(path), "w", format="mp4") as container:
        options = {"preset": "veryfast", "crf": "23", "x264-params": "threads=1"}
        stream = container.add_stream("libx264", rate=_FPS, options=options)
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, picture in enumerate(_pictures(scenes)):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(scenes: tuple[Scene, ...]) -> Iterator[Image.Image]:
    for scene in scenes:
        for number in range(round(scene.seconds * _FPS)):
            yield _picture(scene, number / _FPS)


def _picture(scene: Scene, time: float) -> Image.Image:
    picture = Image.new("RGB", _SIZE, scene.background)
    draw = ImageDraw.Draw(picture)
    for name, look in scene.looks.items():
        for step in scene.steps:
            if step.name == name and time > step.start:
                look = _changed(look, step.change, min(1.0, (time - step.start) / (step.end - step.start)))
        _draw(draw, look)
    light = 1.0
    if scene.fade_in:
        light = min(light, time / scene.fade_in)
    if scene.fade_out:
        light = min(light, (scene.seconds - time) / scene.fade_out)
    return picture if light == 1 else picture.point(lambda level: int(level * light))


def _changed(look: Look, change: dict[str, float | Colour], share: float) -> Look:
    mixed: dict[str, float | Colour] = {}
    for field, goal in change.items():
        now = getattr(look, field)
        if isinstance(goal, tuple):
            mixed[field] = tuple(round(a + (b - a) * share) for a, b in zip(now, goal, strict=True))
        else:
            mixed[field] = now + (goal - now) * share
    return look._replace(**mixed)  # type: ignore[arg-type]


def _draw(draw: ImageDraw.ImageDraw, look: Look) -> None:
    if look.width < 1 or look.height < 1:
        return
    left, right = look.x - look.width / 2, look.x + look.width / 2
    top, bottom = look.y - look.height / 2, look.y + look.height / 2
    if look.shape == "circle":
        draw.ellipse((left, top, right, bottom), look.colour)
    elif look.shape == "box":
        draw.rectangle((left, top, right, bottom), look.colour)
    else:
        draw.polygon(((left, bottom), (right, bottom), (look.x, top)), look.colour)


def _vtt(steps: tuple[Step, ...]) -> str:
    cues = [f"{_clock(s.start)} --> {_clock(s.end)}\n{s.text}\n" for s in steps]
    return "WEBVTT\nKind: descriptions\nLanguage: en\n\n" + "\n".join(cues)


def _srt(steps: tuple[Step, ...]) -> str:
    times = [f"{_clock(s.start)} --> {_clock(s.end)}".replace(".", ",") for s in steps]
    cues = [f"{n}\n{time}\n{s.text}\n" for n, (time, s) in enumerate(zip(times, steps, strict=True), 1)]
    return "\n".join(cues)


def _clock(seconds: float) -> str:
    return f"00:{int(seconds) // 60:02d}:{seconds % 60:06.3f}"


def _cuts(scenes: tuple[Scene, ...]) -> str:
    """The true boundaries; of a fade, all that is darkened."""
    boundaries = []
    at = 0.0
    for before, after in pairwise(scenes):
        at += before.seconds
        faded = before.fade_out or after.fade_in
        start, end = at - before.fade_out, at + after.fade_in
        boundaries.append({"type": "fadeblack" if faded else "cut", "start_s": start, "end_s": end})
    return json.dumps({"fps": _FPS, "boundaries": boundaries, "ignore": []}, indent=1) + "\n"
