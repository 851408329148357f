"""Toy videos for learn.py: shapes come and go on a plain ground, and VTT descriptions say what comes when.

Now and then a grey shape comes, of which nobody says a word.
"""

import random
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from PIL import Image, ImageDraw

SIZE = (112, 84)
FPS = 4
SECONDS = 60
COLOURS = {"red": (220, 50, 40), "yellow": (235, 205, 50), "green": (50, 170, 80), "blue": (60, 90, 225)}
SHAPES = {"circle": "rolls in", "box": "slides down", "triangle": "pops up"}
GREY = (128, 128, 128)


class Visit(NamedTuple):
    """A shape on the screen from `start` to `end`, in seconds; `text` is empty for a grey one."""

    start: float
    end: float
    shape: str
    colour: tuple[int, int, int]
    centre: tuple[int, int]
    text: str


def make_videos(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` videos of a minute, each with its descriptions beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        visits = _visits(random.Random(f"{seed} {number}"))
        _encode(folder / f"toy-{number:04d}.mp4", visits, random.Random(f"ground {seed} {number}"))
        cues = [
            f"{_clock(v.start)} --> {_clock(v.start + 1)}\n{v.text}\n"
            for v in sorted(visits, key=lambda v: v.start)
            if v.text
        ]
        text = "WEBVTT\nKind: descriptions\n\n" + "\n".join(cues)
        (folder / f"toy-{number:04d}.vtt").write_text(text, encoding="utf-8")


def _visits(chance: random.Random) -> list[Visit]:
    visits = []
    time = chance.uniform(2, 8)
    while time < SECONDS - 8:
        colour, shape = chance.choice(list(COLOURS)), chance.choice(list(SHAPES))
        text = f"A {colour} {shape} {SHAPES[shape]}."
        visits.append(_visit(time, shape, COLOURS[colour], text, chance))
        time += chance.uniform(9, 12)
    for _ in range(3):
        start = chance.uniform(0, SECONDS - 6)
        visits.append(_visit(start, chance.choice(list(SHAPES)), GREY, "", chance))
    return visits


def _visit(start: float, shape: str, colour: tuple[int, int, int], text: str, chance: random.Random) -> Visit:
    centre = chance.randint(16, SIZE[0] - 16), chance.randint(16, SIZE[1] - 16)
    return Visit(start, start + chance.uniform(3, 6), shape, colour, centre, text)


def _encode(path: Path, visits: list[Visit], chance: random.Random) -> None:
    ground = tuple(chance.randint(0, 60) for _ in range(3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "23"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(SECONDS * FPS):
            picture = Image.new("RGB", SIZE, ground)
            for visit in visits:
                if visit.start <= number / FPS < visit.end:
                    _draw(ImageDraw.Draw(picture), visit)
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _draw(draw: ImageDraw.ImageDraw, visit: Visit) -> None:
    x, y = visit.centre
    corners = (x - 12, y - 12, x + 12, y + 12)
    if visit.shape == "circle":
        draw.ellipse(corners, visit.colour)
    elif visit.shape == "box":
        draw.rectangle(corners, visit.colour)
    else:
        draw.polygon(((x - 12, y + 12), (x + 12, y + 12), (x, y - 12)), visit.colour)


def _clock(seconds: float) -> str:
    return f"00:{int(seconds) // 60:02d}:{seconds % 60:06.3f}"
