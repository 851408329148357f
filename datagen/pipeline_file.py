"""A pipeline file (YAML, values only) becomes a Config. Unknown keys are errors."""

import difflib
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import yaml
from msgspec import Struct

from datagen.config import SILENT_KINDS, CheckOptions, Config
from datagen.errors import UsageError
from datagen.records import Placement
from datagen.resources import resource


def load_config(pipeline: str, overrides: list[str]) -> Config:
    """Read a pipeline by name (`nqna`) or by path (`my.yaml`), apply `--set key=value` and check it.

    Raises UsageError naming the file, the key and the fix.
    """
    path = find_pipeline(pipeline)
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
        _check_doubles(yaml.compose(text, yaml.SafeLoader), str(path))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: must hold `key: value` lines, not a {type(values).__name__}")
    _check_keys(values, Config, str(path), "")
    for override in overrides:
        _apply(values, override)
    values.setdefault("name", path.stem)
    where = f"{path}" + (f" with --set {' '.join(overrides)}" if overrides else "")
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_plain(str(error))}") from None
    _check_values(config, where)
    return config


def find_pipeline(pipeline: str) -> Path:
    """Path of a pipeline file given by path or by the name of one that comes with datagen."""
    if pipeline.endswith((".yaml", ".yml")):
        path = Path(pipeline)
        if not path.is_file():
            raise UsageError(f"--pipeline {pipeline}: no such file")
        return path
    folder = resource("pipelines")
    known = sorted(p.stem for p in folder.glob("*.yaml"))
    if pipeline not in known:
        raise UsageError(
            f"--pipeline {pipeline}: unknown{_suggest(pipeline, known)}; known pipelines are "
            f"{', '.join(known)}, or give the path of a .yaml file"
        )
    return folder / f"{pipeline}.yaml"


def _check_doubles(node: yaml.Node | None, where: str, depth: int = 3) -> None:
    """Of a key that stands there twice YAML takes the last, and the first would be lost without a word."""
    if not isinstance(node, yaml.MappingNode) or not depth:
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if (first := lines.setdefault(key.value, line)) != line:
            raise UsageError(f"{where}: line {line}: `{key.value}` stands in line {first} too; keep one")
        _check_doubles(value, where, depth - 1)


def _suggest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean `{close[0]}`?" if close else ""


def _check_keys(values: dict[str, Any], struct: type[Struct], where: str, prefix: str) -> None:
    hints = get_type_hints(struct)
    for key, value in values.items():
        if key not in hints:
            known = ", ".join(hints)
            hint = _suggest(str(key), list(hints)) or f"; known keys here are {known}"
            raise UsageError(f"{where}: unknown key `{prefix}{key}`{hint}")
        inner = hints[key]
        if isinstance(inner, type) and issubclass(inner, Struct):
            if not isinstance(value, dict):
                raise UsageError(f"{where}: `{prefix}{key}` must hold keys of its own")
            _check_keys(value, inner, where, f"{prefix}{key}.")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {override}: write it as key=value, such as frames.interval=1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, last = key.split(".")
    nested: dict[str, Any] = {last: value}
    for parent in reversed(parents):
        nested = {parent: nested}
    _check_keys(nested, Config, f"--set {override}", "")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {override}: `{parent}` is a value, it has no keys of its own")
    place[last] = value


def _plain(message: str) -> str:
    text, _, at = message.partition(" - at `$.")
    at = at.rstrip("`")
    if text.startswith("Invalid enum value"):
        known = _choices(at)
        text += _suggest(text.split("'")[1].lower(), known) + f"; known values are {', '.join(known)}"
    return f"`{at}`: {text}" if at else text


def _choices(key: str) -> list[str]:
    """What may stand at a key such as `segment.method`, or in the list `dialogue.shapes[0]`."""
    hint: Any = Config
    for name in key.partition("[")[0].split("."):
        hint = get_type_hints(hint)[name]
    return list(get_args(get_args(hint)[0] if "[" in key else hint))


_BOUNDS: dict[str, tuple[float, float]] = {
    "scenes.threshold": (0, 1000),
    "scenes.min_seconds": (0, 60),
    "frames.interval": (0.04, 3600),
    "frames.max_pixels": (28 * 28, 100_000_000),
    "frames.quality": (1, 95),
    "segment.min_seconds": (0.04, 3600),
    "segment.max_seconds": (0.04, 36000),
    "segment.pause_seconds": (0, 3600),
    "dialogue.min_questions": (1, 100),
    "dialogue.max_questions": (1, 100),
    "dialogue.seconds_per_question": (1, 36000),
    "dialogue.max_reply_words": (3, 1000),
    **{f"checks.{share}": (0, 1) for share in CheckOptions.__struct_fields__},
    "checks.max_span_seconds": (0.04, 36000),
    "export.frames_per_turn": (1, 64),
    "export.max_frames": (1, 100_000),
    "export.max_tokens": (512, 10_000_000),
    "export.rl_fraction": (0, 1),
    "export.val_fraction": (0, 1),
    "export.rl_min_gain": (-10, 10),
    "export.keep_silent": (0, 1),
    "export.silent_tail": (0, 36000),
    "export.dialogues_per_shard": (1, 1_000_000),
    "export.row_group_size": (1, 1_000_000),
    "dataset.duplicate_similarity": (0.5, 1),
    "dataset.max_question_share": (0, 1),
    "dataset.min_reply_rate": (0, 1),
    "dataset.max_reply_rate": (0, 1),
    "dataset.max_silent_seconds": (0, 36000),
    "dataset.max_no_reply_share": (0, 1),
    "limits.max_failures": (0, 1e9),
    "limits.max_seconds": (1, 1e6),
    "limits.watch_seconds": (1, 1e6),
    "limits.watch_ratio": (0, 1000),
    "limits.step_seconds": (1, 1e6),
    "limits.memory_mb": (256, 1_000_000),
    "calls.call_seconds": (0.1, 36000),
    "calls.budget_seconds": (0.1, 360_000),
}


def _check_values(config: Config, where: str) -> None:
    for key, (low, high) in _BOUNDS.items():
        group, name = key.split(".")
        value = getattr(getattr(config, group), name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"{where}: `{key}` is {value:g}, must lie between {low:g} and {high:g}")
    pairs = (
        ("segment.min_seconds", config.segment.min_seconds, config.segment.max_seconds / 2),
        ("dialogue.min_questions", config.dialogue.min_questions, config.dialogue.max_questions),
        ("export.jitter", *config.export.jitter),
        ("export.rl_window_seconds", *config.export.rl_window_seconds),
        ("export.frames_per_turn", config.export.frames_per_turn, config.export.max_frames),
        ("dataset.min_reply_rate", config.dataset.min_reply_rate, config.dataset.max_reply_rate),
    )
    for key, low, high in pairs:
        if not 0 <= low <= high:
            note = " (half of segment.max_seconds)" if key == "segment.min_seconds" else ""
            raise UsageError(f"{where}: `{key}` is {low:g}, more than its upper bound {high:g}{note}")
    for key, most in (("jitter", 1), ("rl_window_seconds", 36000)):
        if (end := getattr(config.export, key)[1]) > most:
            raise UsageError(f"{where}: `export.{key}` ends at {end:g}, at most {most}")
    for tag in config.dataset.languages:
        if not re.fullmatch("[A-Za-z]{2}([-_].*)?", tag):
            raise UsageError(f"{where}: `dataset.languages` holds {tag!r}, which is no code such as en")
    if not set(config.dialogue.shapes) - set(SILENT_KINDS):
        raise UsageError(f"{where}: `dialogue.shapes` must name a shape that has replies, such as narrate")
    assert config.export.placement in get_args(Placement)
