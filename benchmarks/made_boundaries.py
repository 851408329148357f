"""Clips whose shot boundaries are known exactly: python benchmarks/made_boundaries.py VIDEOS FOLDER

Writes two sets, FOLDER/look and FOLDER/held-out, each clip with its boundaries beside it as
CLIP.cuts.json, as `python benchmarks/boundaries.py FOLDER/look` reads them. Change code by what the first
set shows; the second is for telling whether that holds. They share no seed and no second of footage:
shots are cut from inside the true shots of each video in VIDEOS (those with a VIDEO.cuts.json), from its
first half for one set and its second half for the other; the shots made by drawing are of other kinds.
Shots are joined with cuts, dissolves, fades and xfade's ways of wiping. Clips named `still-` have no
boundary. Needs the extra `benchmarks`: ffmpeg-python builds the commands, imageio-ffmpeg has the program.
"""

import json
import random
import sys
from itertools import cycle, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Stream = Any

H264 = {"vcodec": "libx264", "preset": "veryfast", "crf": 24}
VP9 = {"vcodec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "b:v": "900k"}
HEVC = {"vcodec": "libx265", "preset": "ultrafast", "crf": 27, "x265-params": "log-level=error"}
AV1 = {"vcodec": "libsvtav1", "preset": 11, "crf": 38}

FADES = ["fadeblack", "fadewhite", "colour"]
WIPES = ["wipeleft", "wiperight", "wipeup", "wipedown"]
CORNERS = ["wipetl", "wipetr", "wipebl", "wipebr", "diagtl", "diagtr", "diagbl", "diagbr"]
SOFT = ["smoothleft", "smoothright", "smoothup", "smoothdown"]
BANDS = ["vertopen", "vertclose", "horzopen", "horzclose"]
ROUND = ["circleopen", "circleclose", "radial", "circlecrop", "rectcrop"]
SLICES = ["hlslice", "hrslice", "vuslice", "vdslice", "hlwind", "hrwind", "vuwind", "vdwind"]
MOVES = [how + way for how in ("slide", "cover", "reveal") for way in ("left", "right", "up", "down")]
# fmt: off
OTHERS = [
    "dissolve", "pixelize", "distance", "fadegrays", "hblur", "zoomin", "fadeslow", "squeezeh", "squeezev",
]
# fmt: on
MOST = ["cut", "fade", "fadeblack"]
SHORT, LONG, WIPING = (0.3, 1.2), (1.5, 3.0), (0.5, 1.5)


class Clip(NamedTuple):
    """How a clip is made."""

    ways: list[str]
    """How shots are joined, in turn: `cut`, `colour` (a fade through one), or a transition of xfade."""
    seconds: tuple[float, float] = SHORT
    """How long that takes."""
    rate: int = 30
    size: tuple[int, int] = (480, 270)
    look: str = ""
    """Filters for the whole clip: `name option=value ...; name ...`."""
    codec: dict[str, Any] = H264
    drawn: bool = False
    """Whether every second shot is drawn rather than footage."""


CLIPS = {
    "cuts.mp4": Clip(["cut"], rate=24),
    "cuts-drawn.mp4": Clip(["cut"], rate=25, drawn=True),
    "cuts-60.mp4": Clip(["cut"], rate=60),
    "cuts-10.webm": Clip(["cut"], rate=10, codec=VP9),
    "cuts-dark.mp4": Clip(["cut"], look="lutrgb r=val*.22 g=val*.22 b=val*.26; noise alls=6 allf=t"),
    "cuts-grain.mp4": Clip(["cut"], look="noise alls=14 allf=t"),
    "cuts-grey.mp4": Clip(["cut"], look="hue s=0"),
    "cuts-slides.mp4": Clip(["cut"], rate=2),
    "dissolves.mp4": Clip(["fade"]),
    "dissolves-long.mp4": Clip(["fade"], LONG),
    "dissolves-long-drawn.webm": Clip(["fade"], LONG, rate=25, codec=VP9, drawn=True),
    "dissolves-dark.mp4": Clip(["fade"], (0.5, 2.0), look="lutrgb r=val*.3 g=val*.3 b=val*.3"),
    "fades.mp4": Clip(FADES, (0.6, 2.0)),
    "fades-drawn.mkv": Clip(FADES, (0.6, 2.0), codec=AV1, drawn=True),
    "wipes.mp4": Clip(WIPES, WIPING),
    "wipes-vfr.mp4": Clip(WIPES, WIPING, look="select expr=gt(random(7),.4)"),
    "corners.mp4": Clip(CORNERS, WIPING),
    "soft.mp4": Clip(SOFT, WIPING, codec=HEVC),
    "bands.mp4": Clip(BANDS, WIPING, drawn=True),
    "round.mp4": Clip(ROUND, WIPING),
    "slices.mp4": Clip(SLICES, WIPING),
    "moves.mp4": Clip(MOVES, WIPING),
    "others.mp4": Clip(OTHERS, WIPING),
    "all.mp4": Clip(["cut", "fade", "cut", "fadeblack", "cut", "wipeleft", "wipedown"]),
    "all-letterbox.mp4": Clip(MOST, look="crop h=ih*.7; pad w=iw h=ih/.7 y=(oh-ih)/2"),
    "all-small.webm": Clip(MOST, rate=15, size=(160, 90), codec=VP9),
    "all-vfr.mp4": Clip(MOST, look="select expr=gt(random(3),.5)"),
}

STILL = {
    "film": "",
    "strobe": "eq brightness=if(lt(mod(t,.23),.1),-.5,.05) eval=frame",
    "flashes": "eq brightness=.9*exp(-8*mod(t,2.3))*gt(t,2) eval=frame",
    "lightning": "lutrgb r=val*.25 g=val*.25 b=val*.35; eq eval=frame "
    "brightness=.6*lt(mod(t,2.9),.1)+.7*between(mod(t,2.9),.2,.35)",
    "lamp": "eq contrast=1-.6*between(mod(t,5),2,4) brightness=-.3*between(mod(t,5),2,4) eval=frame",
    "dark": "lutrgb r=val*.25 g=val*.25 b=val*.25; noise alls=10 allf=t",
    "shaky": "crop w=iw*.8 h=ih*.8 x=(iw-ow)/2*(1+.5*sin(t*19)+.5*sin(t*7)) "
    "y=(ih-oh)/2*(1+sin(t*23)*cos(t*5))",
}
"""What is done to footage in clips without a boundary."""

JOINS = 7
LASTS = 12.0
"""Seconds of a clip without a boundary."""


class Stretch(NamedTuple):
    """A part of a true shot."""

    video: Path
    start: float
    seconds: float
    colours: Any
    """How many of 576 pixels of its first picture have each of 64 colours."""

    def alike(self, other: "Stretch") -> bool:
        """Whether they may be of one place, so that joining them need not look like a change of shot."""
        return bool(np.minimum(self.colours, other.colours).sum() > 288)

    def source(self, chance: random.Random, seconds: float) -> Stream:
        """So many seconds of it, or all of it if it is shorter, from anywhere in it."""
        seconds = min(seconds, self.seconds)
        start = self.start + chance.random() * (self.seconds - seconds)
        return ffmpeg.input(str(self.video), ss=round(start, 2), t=seconds).video


def footage(videos: Path, scratch: Path) -> tuple[list[Stretch], list[Stretch]]:
    """The true shots of the videos, without their edges: those of first halves, those of second halves."""
    halves: tuple[list[Stretch], list[Stretch]] = [], []
    for truth in sorted(videos.glob("*.cuts.json")):
        video, known = truth.with_name(truth.name.removesuffix(".cuts.json")), json.loads(truth.read_text())
        with av.open(str(video)) as container:
            length = (container.duration or 0) / av.time_base
            if "cut_from" in known or container.streams.video[0].average_rate < 10:
                continue
        # Seeking is exact, and times count from the first picture, where every picture is a key frame.
        exact = scratch / f"{video.name}.mkv"
        pictures = ffmpeg.input(str(video)).video.filter("setpts", "PTS-STARTPTS").filter("scale", -2, 360)
        run(pictures.output(str(exact), fps_mode="vfr", preset="ultrafast", crf=12, g=1))
        edges = known["boundaries"] + known.get("ignore", [])
        spans = [(each["start_s"], each["end_s"]) for each in edges]
        for half, (first, last) in enumerate(pairwise([0, length / 2, length])):
            ends = sorted([*spans, (first, first), (last, last)])
            for (_, start), (end, _) in pairwise(ends):
                if first <= start and end <= last and end - start > 1.5:
                    halves[half].append(Stretch(exact, start + 0.2, end - start - 0.4, colours(exact, start)))
    return halves


def colours(video: Path, time: float) -> Any:
    with av.open(str(video)) as container:
        container.seek(round((time + 0.2) * av.time_base))
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24", width=32, height=18)
    return np.histogramdd(picture.reshape(-1, 3), bins=4, range=[(0, 256)] * 3)[0]


def page(chance: random.Random, width: int, height: int, path: Path) -> Stream:
    """A document, dark or light, of words and pictures, as a still."""
    paper, ink = chance.choice([("#fdfdfa", "#222222"), ("#1e1f26", "#d8dee9"), ("#e8eef6", "#10305a")])
    picture = Image.new("RGB", (width, height), paper)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    draw.rectangle((0, 0, width, 26), chance.choice(["#3367d6", "#444444", "#a33030"]))
    for y in range(40, height, 24):
        words = ("".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(40))
        draw.text((30, y), " ".join(words)[: chance.randint(10, width // 9)], ink, font)
        if chance.random() < 0.08:
            colour = tuple(chance.choices(range(256), k=3))
            draw.rectangle((30, y, chance.randint(60, width - 10), y + chance.randint(40, 150)), colour)
    picture.save(path)
    return ffmpeg.input(str(path), loop=1, framerate=30, t=2 * LASTS).video


def drawn(chance: random.Random, stretches: list[Stretch], folder: Path, held_out: bool) -> dict[str, Stream]:
    """A shot of each kind that is made rather than filmed."""
    seed, still = chance.randrange(10**6), chance.choice(stretches)
    lavfi = {"gradients": f"gradients=s=640x360:n=4:speed=.02:seed={seed}"}
    lavfi["life"] = f"life=s=160x90:r=15:mold=9:ratio=.3:seed={seed}:mold_color=#402010:life_color=#70c0ff"
    move = {"x": "(iw-iw/zoom)*on/500", "z": "1.8"}
    words = page(chance, 640, 2400, folder / f"page{seed}.png")
    screens = {"scrolling": words.filter("crop", 640, 360, 0, "80*floor(t/1.7)")}
    if held_out:
        lavfi = {"mandelbrot": "mandelbrot=s=320x180:r=25:start_scale=.4", "testsrc2": "testsrc2=s=640x360"}
        lavfi["perlin"] = f"perlin=s=320x180:octaves=4:tscale=.7:random_seed={seed}:random_mode=seed"
        move = {"z": "1+on/400", "x": "iw/2-iw/zoom/2", "y": "ih/2-ih/zoom/2"}
        screens = {"scrolling": words.filter("crop", 640, 360, 0, "max(0,400*(t-3)-300*max(0,t-5))")}
    desk = page(chance, 640, 360, folder / f"desk{seed}.png")
    for n in range(3):
        size = chance.randint(200, 420), chance.randint(120, 260)
        at = {"x": chance.randint(0, 640 - size[0]), "y": chance.randint(0, 360 - size[1])}
        start = 2 + 3 * n + chance.random()
        shown = f"between(t,{start:.2f},{start + chance.uniform(1, 5):.2f})"
        desk = desk.overlay(page(chance, *size, folder / f"window{seed}{n}.png"), enable=shown, **at)
    inset = chance.choice(stretches).source(chance, 2 * LASTS).filter("scale", chance.choice([160, 256]), -2)
    within = {"x": 360, "y": 20, "enable": "between(t,2.5,6.4)", "eof_action": "repeat"}
    first = still.source(chance, 1).filter("select", "eq(n,0)")
    return {
        **{name: ffmpeg.input(graph, f="lavfi", ss=2, t=2 * LASTS).video for name, graph in lavfi.items()},
        **screens,
        "windows": desk,
        "camera": first.filter("zoompan", d=600, s="640x360", fps=30, **{"y": "0", **move}),
        "inset": still.source(chance, 2 * LASTS).filter("scale", 640, 360).overlay(inset, **within),
    }


def fitted(shot: Stream, frames: int, clip: Clip) -> Stream:
    """A shot as exactly so many pictures of the clip's size and rate."""
    width, height = clip.size
    shot = shot.filter("fps", clip.rate).filter("setpts", "PTS-STARTPTS")
    if clip.rate <= 2:
        shot = shot.filter("loop", loop=-1, size=1)
    shot = shot.filter("scale", width, height, force_original_aspect_ratio="increase")
    shot = shot.filter("crop", width, height).filter("setsar", 1).filter("format", "yuv420p")
    shot = shot.filter("tpad", stop_mode="clone", stop_duration=frames / clip.rate + 1)
    return shot.filter("trim", end_frame=frames).filter("fps", clip.rate)


def joined(chance: random.Random, clip: Clip, stretches: list[Stretch], shots: Any) -> tuple[Stream, Any]:
    """Shots joined as the clip wants it, and the boundaries; `shots` gives drawn ones."""
    ways = list(clip.ways)
    chance.shuffle(ways)
    ways = (ways * JOINS)[:JOINS]
    lengths = [
        0 if way == "cut" else round(chance.uniform(*clip.seconds) * clip.rate / 2) * 2 for way in ways
    ]
    whole, total, known, last = None, 0, [], None
    for n, (before, after) in enumerate(pairwise([0, *lengths, 0])):
        frames = before + after + round(chance.uniform(1.5, 4) * clip.rate)
        seconds = frames / clip.rate
        others = [each for each in stretches if last is None or not each.alike(last)] or stretches
        enough = [each for each in others if each.seconds >= seconds]
        last = chance.choice(enough or [max(others, key=lambda each: each.seconds)])
        shot = next(shots) if clip.drawn and n % 2 else last.source(chance, seconds)
        shot = fitted(shot, frames, clip)
        if whole is None:
            whole, total = shot, frames
            continue
        way, start = ways[n - 1], total - before
        if way == "colour":
            half, colour = before // 2, chance.choice(["red", "#203060", "#e0d0a0"])
            whole = whole.filter("fade", "out", total - half, half, color=colour)
            shot = shot.filter("fade", "in", 0, half, color=colour)
            start = total - half
        if way in ("cut", "colour"):
            whole, total = ffmpeg.concat(whole, shot).filter("fps", clip.rate), total + frames
        else:
            how = {"transition": way, "duration": before / clip.rate, "offset": start / clip.rate}
            whole, total = ffmpeg.filter([whole, shot], "xfade", **how), start + frames
        end = start + before
        known.append({"type": way, "start_s": start / clip.rate, "end_s": end / clip.rate})
    return whole, known


def run(output: Stream) -> None:
    output.global_args("-loglevel", "fatal").run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True)


def write(stream: Stream, look: str, path: Path, codec: dict[str, Any], known: list[Any]) -> None:
    for each in filter(None, look.split(";")):
        name, *options = each.split()
        stream = stream.filter(name, **dict(option.split("=", 1) for option in options))
    run(stream.output(str(path), pix_fmt="yuv420p", fps_mode="vfr", an=None, **codec))
    path.with_name(f"{path.name}.cuts.json").write_text(json.dumps({"boundaries": known}, indent=1))


def make_set(folder: Path, stretches: list[Stretch], scratch: Path, held_out: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    longest = sorted(stretches, key=lambda each: -each.seconds)[:7]
    for name, clip in CLIPS.items():
        chance = random.Random(f"{folder.name} {name}")
        kinds = [drawn(chance, stretches, scratch, held_out) for _ in range(2)]
        shots = cycle([shot for each in kinds for kind, shot in each.items() if kind != "inset"])
        stream, known = joined(chance, clip, stretches, shots)
        write(stream, clip.look, folder / name, clip.codec, known)
    for number, (name, look) in enumerate(2 * list(STILL.items())):
        chance, stretch = random.Random(f"{folder.name} {number}"), longest[(number * 3 + number // 7) % 7]
        frames = round(30 * min(LASTS, stretch.seconds))
        shot = fitted(stretch.source(chance, LASTS), frames, Clip([]))
        write(shot, look, folder / f"still-{name}-{number // len(STILL)}.mp4", H264, [])
    for number in range(2):
        chance = random.Random(f"{folder.name} drawn {number}")
        for name, shot in drawn(chance, stretches, scratch, held_out).items():
            shot = fitted(shot, round(30 * LASTS), Clip([]))
            write(shot, "", folder / f"still-{name}-{number}.mp4", H264, [])


def main(videos: Path, folder: Path) -> None:
    with TemporaryDirectory() as scratch:
        look, held_out = footage(videos, Path(scratch))
        if not look or not held_out:
            sys.exit(f"{videos}: no shots; each video needs its boundaries beside it as VIDEO.cuts.json")
        make_set(folder / "look", look, Path(scratch), False)
        make_set(folder / "held-out", held_out, Path(scratch), True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
