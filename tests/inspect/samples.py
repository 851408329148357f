"""A small dataset as a build leaves it, written by the real export."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import msgspec

from datagen.config import Config, ExportOptions, FrameOptions
from datagen.export.export import export
from datagen.inspect.show import main as show
from tests.export.samples import answer, built, dialogue, question

HOSTILE = "a \x1b[31mred\x1b[0m door \u202eopens"
STEPS = (
    "Two eggs are cracked into a glass bowl.",
    "A whisk beats them until foam forms.",
    "White flour falls through a sieve.",
    "Sugar melts in the copper pan.",
    "Butter follows, cut into small cubes.",
    "Lemon peel is grated over everything.",
    "Dough gets kneaded on the wooden board.",
    "An oven door opens, glowing red inside.",
    "Raisins soak beside it in dark rum.",
    "Somebody paints the crust with yolk.",
    "Steam rises while the loaf cools down.",
    "A knife slices off the first piece.",
    "Children gather around the kitchen table.",
    "Jam is spread thickly on both halves.",
    "Crumbs remain on an empty plate.",
)


def cooking(id, seconds=120.0, step=9.0, shift=0):
    """One question and an answer, each in other words, for every `step` seconds."""
    starts = [k * step for k in range(int(seconds / step))]
    answers = [answer(STEPS[(k + shift) % len(STEPS)], s, s + step - 1) for k, s in enumerate(starts)]
    return dialogue(question("What is being done now?", 0.0, *answers), id=f"{id}#0", type="1QnA")


def config(**options):
    values = {"rl_fraction": 0.6, "val_fraction": 0.3, **options}
    return Config(name="test", export=ExportOptions(**values), frames=FrameOptions(interval=2.0))


def write(out: Path, videos, options=None) -> Path:
    """Export videos to `out` with frames (empty files) and run.json."""
    options = options or config()
    out.mkdir(parents=True, exist_ok=True)
    report = export(lambda: iter(videos), [], out, options)
    for each in videos:
        folder = out / "frames" / each.video.id
        folder.mkdir(parents=True)
        for number in range(1, each.watched.frame_count + 1):
            (folder / f"{number:06d}.jpg").touch()
    run = {"status": "done", "pipeline": msgspec.to_builtins(options), **report}
    (out / "run.json").write_text(json.dumps(run))
    return out


def cooking_dataset(out: Path, videos=6, **options) -> Path:
    made = [built(cooking(f"v{k}", shift=k), id=f"v{k}", frames=60) for k in range(videos)]
    return write(out, made, config(**options))


def rehash(out: Path) -> None:
    """Write the present files' hashes into run.json, as a forger would."""
    from datagen.export.shards import describe_shard

    run = json.loads((out / "run.json").read_text())
    run["shards"] = {name: describe_shard(out / name) for name in run["shards"] if (out / name).exists()}
    (out / "run.json").write_text(json.dumps(run))


def shown(*argv):
    """Status, output and complaints of `datagen show`."""
    said, wrong = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(wrong):
        try:
            status = show([str(a) for a in argv])
        except SystemExit as end:
            status = end.code
    return status, said.getvalue(), wrong.getvalue()
