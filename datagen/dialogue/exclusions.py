"""What is kept out of a training set: videos and questions of a benchmark, and other languages."""

from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from msgspec import Struct

from datagen.config import DatasetOptions
from datagen.dialogue.duplicates import QuestionIndex
from datagen.errors import UsageError
from datagen.records import Video

_SURE = 0.9
"""Probability from which a language counts; below it the text is too short or too mixed to tell."""


class Exclusions(Struct, frozen=True):
    """Names of videos and questions that are kept out."""

    videos: frozenset[str]
    """As listed, and without folders and extension."""
    questions: QuestionIndex

    def listed_video(self, video: Video) -> str | None:
        """The name by which a video is listed, or None."""
        if not self.videos:
            return None
        return next((name for name in (video.id, *_names(video.name)) if name in self.videos), None)

    def listed_question(self, text: str) -> str | None:
        """The question, by comparable(), that is listed and like this one, or None."""
        group = self.questions.find(text)
        return None if group is None else self.questions.examples[group]


def read_exclusions(options: DatasetOptions) -> Exclusions:
    """Read the files of `dataset.exclude_videos` and `dataset.exclude_questions`.

    Each is text with one id, name or question a line, or a JSON list of a benchmark (ProactiveVideoQA: the
    `video` of each entry; the `content` of what the user says in its `conversation`).

    Raises UsageError naming the option for a file that cannot be read or holds nothing.
    """
    videos: set[str] = set()
    questions = QuestionIndex(options.duplicate_similarity)
    for name in _read("exclude_videos", options.exclude_videos, lambda entry: [str(entry["video"])]):
        videos.update(_names(name))
    for text in _read("exclude_questions", options.exclude_questions, _questions):
        questions.add(text)
    return Exclusions(frozenset(videos), questions)


def _read(option: str, path: str | None, of_entry: Any) -> list[str]:
    if path is None:
        return []
    where = f"dataset.{option}: {path}"
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if text.lstrip()[:1] in ("[", "{"):
            entries = msgspec.json.decode(text)
            found = [name for entry in entries for name in of_entry(entry)]
        else:
            found = text.splitlines()
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise UsageError(f"{where}: is neither text with one a line nor JSON: {error}") from None
    except (KeyError, TypeError, AttributeError, RecursionError):
        wanted = "a list of objects with `video`, and `conversation` with `role` and `content`"
        raise UsageError(f"{where}: is JSON, but not {wanted}") from None
    found = [line.strip() for line in found if line.strip()]
    if not found:
        raise UsageError(f"{where}: holds nothing to exclude; leave the option out if that is meant")
    return found


def _questions(entry: dict[str, Any]) -> list[str]:
    asked = [message["content"] for message in entry["conversation"] if message["role"] == "user"]
    return [text for text in asked if isinstance(text, str)]


def _names(name: str) -> tuple[str, str, str]:
    path = PurePosixPath(name.replace("\\", "/"))
    return name, path.name, path.stem


def language_of(text: str) -> str | None:
    """ISO 639-1 code of a text's language, or None where it cannot be told.

    By byte n-grams and naive Bayes (M. Lui and T. Baldwin, langid.py, 2012), which needs a sentence or more.
    """
    code, probability = _identifier().classify(text)
    return str(code) if probability >= _SURE else None


def language_code(tag: str) -> str:
    """The language of a tag such as en-US, in lower case."""
    return tag.strip().lower().replace("_", "-").partition("-")[0]


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes a second, and few builds ask for it

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
