"""Plain text in any language: made safe, compared, counted and cut."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from datagen.records import NO_REPLY

_SPECIAL_TOKEN = re.compile(
    r"<\|[^<>|\s]{0,64}\|>"
    r"|</?(?:image|video|audio|img|box|ref|s|bos|eos|pad|unk|think|answer|tool_call|tool_response)>"
    r"|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>",
    re.IGNORECASE,
)
_UNSEEN = frozenset("\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_STOP = r".!?…؟۔।॥"
_WIDE_STOP = "。！？｡"
_CLOSERS = r"\"'”’»)\]」』）"
SENTENCE_END = re.compile(
    rf"(?<![{_STOP}])[{_STOP}]++[{_CLOSERS}]*+(?=\s|$)|(?<![{_WIDE_STOP}])[{_WIDE_STOP}]++[{_CLOSERS}]*+"
)
CLAUSE_END = re.compile(r"(?<![,;:،؛])[,;:،؛]++(?=\s)|[，；：、]|\s[–—-](?=\s)")
_LIST_NUMBER = re.compile(r"^\s*+(?:\d{1,3}[.)、]|[-*•])\s+")
_SILENCE = re.compile(re.escape(NO_REPLY), re.IGNORECASE)
_SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_COMMON = """
a about above after again all also am an and any are as at back be because been before being below both
but by can cant could did didnt do does doesnt doing done dont down each few first for from get gets go
goes going got had has have having he her here hers him his how i if ill im in into is it its itself ive
just keep left let lets like me more most my no nor not now of off ok okay on once one only onto or other
our out over own put puts right same second see seen she so some still such take takes than that thats
the their them then there theres these they theyre thing things this those through to too two under until
up us use using very was way we well were what when where which while who whom why will with would yes
you your youre yours
"""
_STOPWORDS = frozenset(_COMMON.split())


_COUNTED = """
zero _ two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
_ORDINALS = """
_ _ _ third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
sixteenth seventeenth eighteenth nineteenth twentieth
"""
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {word: str(n) for names in (_COUNTED, _ORDINALS) for n, word in enumerate(names.split())}
_NUMBERS |= {word: str(10 * n) for n, word in enumerate(_TENS.split())}
_NUMBERS |= {"dozen": "12", "hundred": "100", "thousand": "1000", "million": "1000000"}
_NUMBERS |= {"twice": "2", "thrice": "3"}
_PLACED = {"first": "1", "second": "2"}
"""Ordinals that are numbers only after one of `_POINTING` and before a noun: "the second cup"."""
_POINTING = frozenset(["the", "her", "his", "its", "their", "this", "that", "my", "your"])
_DIGITS = re.compile(r"([0-9]+)(?:st|nd|rd|th|s|x)?")
_IRREGULAR = """
ate:eat bought:buy broke:break broken:break brought:bring built:build came:come caught:catch
children:child died:die drank:drink drawn:draw drew:draw driven:drive drove:drive eaten:eat fallen:fall
fed:feed feet:foot fell:fall flew:fly froze:freeze frozen:freeze gave:give given:give halves:half
held:hold hung:hang kept:keep knives:knife laid:lay lain:lie leaves:leaf loaves:loaf lying:lie made:make
melted:melt men:man mice:mouse poured:pour ran:run risen:rise rode:ride rose:rise running:run sat:sit
shaken:shake shelves:shelf shook:shake sitting:sit slid:slide spoke:speak spun:spin stole:steal
stood:stand stuck:stick swam:swim swept:sweep swung:swing taken:take taught:teach teeth:tooth threw:throw
thrown:throw tied:tie took:take tore:tear torn:tear tying:tie used:use using:use went:go wolves:wolf
women:woman wore:wear worn:wear wound:wind written:write wrote:write
"""
_BASES = dict(pair.split(":") for pair in _IRREGULAR.split())
_VOWELS = frozenset("aeiouy")


class _Spaced(dict[int, str]):
    """Characters by what they do to words: punctuation parts them, scripts without spaces stand alone."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char in "'’":
            made = ""
        elif unicodedata.category(char)[0] not in "LNM":
            made = " "
        else:
            made = f" {char} " if spaceless(char) else char
        self[code] = made
        return made


_SPACED = _Spaced()
_SPACED_ASCII = "".join(c.lower() if c.isalnum() else " " for c in map(chr, range(128))).encode().ljust(256)
"""The same for ASCII, letters made small."""


@lru_cache(maxsize=8192)
def spaceless(char: str) -> bool:
    """Whether a character belongs to a script that is written without spaces between words."""
    return unicodedata.name(char, "").startswith(_SPACELESS)


@lru_cache(maxsize=1024)
def tokens(text: str) -> tuple[str, ...]:
    """Words without case and punctuation; each character by itself in scripts without spaces."""
    if text.isascii():
        return tuple(text.encode().translate(_SPACED_ASCII, b"'").decode().split())
    return tuple(unicodedata.normalize("NFKC", text).casefold().translate(_SPACED).split())


def normalised(text: str) -> str:
    """What two texts share that say the same; text without any word (an emoji) stands for itself."""
    return " ".join(tokens(text)) or text.strip()


def content(words: Sequence[str]) -> tuple[str, ...]:
    """The tokens that carry meaning."""
    return tuple(w for w in words if w not in _STOPWORDS and (len(w) > 1 or not w.isascii() or w.isdigit()))


@lru_cache(maxsize=1024)
def numbers(text: str) -> frozenset[str]:
    """Numbers in digits or English words, in one form. `one` often is no number, nor are `first` and `second`
    but where they point at something ("the second cup").
    """
    found = set()
    words = tokens(text)
    for before, word, after in zip(("", *words), words, (*words[1:], ""), strict=False):
        if word in _NUMBERS:
            tens = len(_NUMBERS[word]) == 2 and _NUMBERS[word][1] == "0" and word != "ten"
            ones = _NUMBERS.get(after, "1" if after == "one" else "")
            if tens and len(ones) == 1:
                found.add(_NUMBERS[word][0] + ones)
            elif not (before.endswith("ty") and before in _NUMBERS and len(_NUMBERS[word]) == 1):
                found.add(_NUMBERS[word])
        elif word in _PLACED:
            if before in _POINTING and after and after not in _STOPWORDS and after != "time":
                found.add(_PLACED[word])
        elif word[0].isdigit():
            match = _DIGITS.fullmatch(word)
            found.add((match[1] if match else word).lstrip("0") or "0")
    return frozenset(found)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """What the forms of an English word share, roughly: without -s, -ing, -ed, -ly; numbers as digits."""
    word = _NUMBERS.get(word) or _BASES.get(word, word)
    if not (word.isascii() and word.isalpha()):
        return word
    if len(word) < 4:
        return word[:2] if len(word) == 3 and word[1] == word[2] not in _VOWELS else word
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        word = word[:-2]
    elif word[-1] == "s" and word[-2] not in "sui":
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and not word.endswith("eed") and _VOWELS.intersection(base):
            word = base
            break
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    return word[:-1] if len(word) > 2 and word[-1] == word[-2] and word[-1] not in _VOWELS else word


@lru_cache(maxsize=4096)
def stems(text: str) -> tuple[str, ...]:
    """The stems of the words that carry meaning, in order."""
    return tuple(stem(word) for word in content(tokens(text)))


def count_words(text: str) -> int:
    """Words of a text; in scripts without spaces two characters count as one."""
    found = tokens(text)
    if text.isascii():
        return max(len(text.split()), len(found))
    alone = sum(1 for token in found if len(token) == 1 and spaceless(token))
    return max(len(text.split()), len(found) - alone // 2)


def clean(text: str) -> str:
    """One safe line: no control or direction characters, chat tokens or embedded silence."""
    if not (text.isascii() and text.isprintable()):
        text = text.encode("utf-8", "replace").decode("utf-8")
        text = "".join(
            "" if c in _UNSEEN else " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text
        )
    # A space takes the place of a token, so that its removal cannot put together another one.
    text = " ".join(_SPECIAL_TOKEN.sub(" ", text).split())
    return _SILENCE.sub(NO_REPLY.lower(), text)


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of an untrusted text: clean, capitalised, punctuated, without list numbers."""
    lines: list[str] = []
    for line in text.splitlines():
        # Subtitles break lines anywhere: only the next number of a list begins something new.
        if lines and not _LIST_NUMBER.match(line):
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    found = []
    for line in map(clean, lines):
        start = 0
        for match in SENTENCE_END.finditer(line):
            # Neither the number of a list nor "oz." in mid-sentence ends one.
            goes_on = line[:1].isupper() and line[match.end() : match.end() + 2].strip().islower()
            if not goes_on and not line[start : match.end()].strip(" .").isdigit():
                found.append(line[start : match.end()])
                start = match.end()
        found.append(line[start:])
    made = (as_sentence(_LIST_NUMBER.sub("", piece, count=1)) for piece in found)
    return tuple(sentence for sentence in made if sentence)


def as_sentence(text: str) -> str:
    """Text with a capital and a full stop; empty where nothing but punctuation is in it."""
    text = text.strip().rstrip(",;:،؛，；：、–—- ")
    if not any(unicodedata.category(c)[0] in "LNS" for c in text):
        return ""
    text = text[0].upper() + text[1:]
    if ends_sentence(text):
        return text
    last = next((c for c in reversed(text) if c.isalnum()), ".")
    return text + ("。" if spaceless(last) else ".")


def ends_sentence(text: str) -> bool:
    """Whether the last thing in it is final punctuation, but for quotes and brackets."""
    return text.rstrip(" \"'”’»)]」』）")[-1:] in tuple(_STOP + _WIDE_STOP)


def fit(text: str, limit: int) -> str | None:
    """Text of at most `limit` words, cut after a sentence or else a clause; None where it has no such end."""
    if count_words(text) <= limit:
        return text
    for ends in (SENTENCE_END, CLAUSE_END):
        kept = start = total = 0
        for match in ends.finditer(text):
            total += count_words(text[start : match.end()])
            if total > limit:
                break
            kept = start = match.end()
        if count_words(text[:kept]) >= min(3, limit):
            return as_sentence(text[:kept])
    return None


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """ROUGE-L F1: longest common subsequence of tokens, bit-parallel (Crochemore et al., 2001)."""
    if not one or not other:
        return 0.0
    places: dict[str, int] = {}
    for i, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << i
    full = (1 << len(one)) - 1
    row = full
    for token in other:
        hit = row & places.get(token, 0)
        row = ((row + hit) | (row - hit)) & full
    common = len(one) - row.bit_count()
    return 2 * common / (len(one) + len(other))
