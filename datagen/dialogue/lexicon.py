"""What the checks know of texts: words that give a fault away, words that say nothing of a video, bad form.

All patterns take linear time. English only: in other languages these checks find less, never more.
"""

import json
import re

from datagen.llm.text import clean, count_words, normalised, stem, stems
from datagen.records import NO_REPLY

ROLE = re.compile(r"^[ \t]*+(?:user|assistant|system)[ \t]*+(?:$|[:：])", re.IGNORECASE | re.MULTILINE)
_JSON = re.compile(r"```|[{\[]\s?\"|\"\s?[}\]]|\"\s?:\s?[\"{\[]|^(?:null|none|n/a)\W*+$", re.IGNORECASE)

HINDSIGHT = re.compile(
    r"\b(?:later|eventually|finally|ultimately|subsequently|throughout|thereafter|afterwards?|shortly"
    r"|upcoming|end(?:s|ed|ing)? up|turn(?:s|ed|ing)? out|go(?:es)? on to|went on to|about to|yet to come"
    r"|still to come|by the (?:end|time)|in the (?:end|long run)|at (?:long )?last|at the very end"
    r"|before (?:too )?long|in (?:due course|time for|a (?:moment|minute|while|bit|second|few \w+))"
    r"|over the course of|in the future|from (?:start|beginning) to (?:finish|end)|(?:one|the"
    r"|for the) last (?:time|step|part)|first of many|(?:the|a) (?:final|end) (?:result|product|dish|step"
    r"|outcome|touch|moment)|culminat\w+|foreshadow\w*|(?:the )?next (?:up|step|steps|comes|stage|part"
    r"|phase|thing)|(?:comes|follows|happens) (?:next|after)|what (?:follows|comes|lies ahead|is to come)"
    r"|(?:as|which) we(?: (?:wi|sha)ll|['’]ll) see|lies ahead|(?:the )?(?:whole|entire|rest of the"
    r"|remainder of the|remaining) (?:video|clip|process|recipe|time|way)|in (?:preparation"
    r"|anticipation) (?:for|of)|(?:so|all) in all|all along|in hindsight|looking back|(?:come|comes"
    r"|be) (?:in )?(?:handy|useful|important|needed|relevant|crucial)|pays? off|(?:in|as a) prelude"
    r"|to be (?:finished|continued|used|completed|served|repeated|revealed)|leads? (?:up )?to"
    r"|leading up to|sets? the stage|paves? the way|until the end|the (?:end|outcome|conclusion) (?:of|is"
    r"|will)|in conclusion)\b",
    re.IGNORECASE,
)
"""Speaks as one who knows how it goes on."""

FUTURE = re.compile(
    r"\b(?:will|shall|gonna|would later|is bound to|is destined to|\w+['’]ll|(?<!as )soon(?! as)"
    r"|going to (?:be|get|make|add|take|put|use|become|have|turn|happen|need|start|finish|cook|cut))\b",
    re.IGNORECASE,
)
"""Speaks of what is to come, as speakers themselves do."""

CAPTION_SPEAK = re.compile(
    r"\b(?:caption(?:s|ed|ing)?|segments?|clips?|transcri\w+|frames?|described|footage|subtitles?"
    r"|timestamps?|annotat\w+|narrat(?:ors?|ions?|ive|ed)|voice-?overs?|videos?|films?|recordings?"
    r"|excerpts?|snippets?|passages?|scenes?|screenshots?|images?|photos?|photographs?|visuals?|input"
    r"|metadata|dataset|depict\w*|portray\w*|showcas\w+|illustrat\w+|pictured|descriptions?|the (?:notes?"
    r"|text|data|log|record)|(?:my|these|those|given|provided|supplied) (?:notes?|text|information"
    r"|context|data|evidence)|the picture (?:\w+ )?(?:shows?|depicts?|begins|ends|captures)|(?:is|are"
    r"|as) seen (?:in|on) (?:camera|screen)|the camera (?:shows|captures|records)|shots? [0-9]{1,3}"
    r"|stretch [0-9]{1,3})\b",
    re.IGNORECASE,
)
"""Speaks of the notes it was made from, or of a video as a video, rather than of what is seen."""

QUESTION_SPEAK = re.compile(
    r"\b(?:captions?|segments?|clips?|transcripts?|frames?|described|subtitles?|timestamps?|annotat\w+"
    r"|scene [0-9]{1,3}|footage|(?:according to|based on) (?:the|these|this) (?:notes?|descriptions?|text"
    r"|data)|(?:provided|given) (?:text|notes?|information|context|description|data|evidence))\b",
    re.IGNORECASE,
)
"""The same in a question: a viewer may well speak of a video."""

REFUSAL = re.compile(
    r"\b(?:i(?:['’]m| am) (?:sorry|afraid|unable|not able)|i (?:can(?:no|['’])t|could not|couldn['’]t"
    r"|won['’]t|do not|don['’]t|am not)(?: \w+)? (?:see|tell|know|say|answer|assist|help|determine"
    r"|identify|comply|provide|describe|have|permitted|allowed)|as an? (?:ai|language model|assistant)"
    r"|my (?:apologies|guidelines)|unable to (?:determine|tell|say|answer|identify|see|provide|assist"
    r"|comply)|(?:can ?not|can['’]t|could not) be (?:determined|answered|identified|told|said|known)"
    r"|(?:not enough|insufficient|no (?:relevant|new|further|additional|specific)) (?:information"
    r"|details?|context|evidence|updates?)|no information|nothing (?:new |more )?to (?:report|add|say)"
    r"|no (?:answer|response|comment)|does(?: not|n['’]t) (?:answer|say|mention|specify|contain"
    r"|provide))\b",
    re.IGNORECASE,
)
"""Says that it says nothing, where silence would be right."""

LABEL = re.compile(
    r"^\W{0,4}(?:answer|reply|response|output|question|assistant|user|system|bot|ai|model|q"
    r"|a)\s{0,3}[0-9]{0,2}\s{0,3}[:：=]|^\s{0,4}#{1,6} |\*\*|^\s{0,4}(?:[-*•]|[0-9]{1,2}[.)]) "
    r"|</?[a-z][a-z0-9]{0,15}/?>|\\[nt\"]|\\u[0-9a-f]{4}|\{\{?\s?\w{0,40}\s?\}?\}|https?://",
    re.IGNORECASE | re.MULTILINE,
)
"""What is left of a form that was filled in."""

_SILENCE = re.compile(r"\bNO[ _-]{0,3}REPLY\b")
"""The mark of silence; in lower case it may be speech."""

WAITING = re.compile(
    r"\b(?:tell|let|alert|notify|warn|inform|ping|remind|signal|call|shout|message"
    r"|give)\b.{0,60}?\b(?:when|whenever|once|if|as soon as|the moment|every time|each time"
    r"|the next time)\b|\b(?:watch|look|wait|listen)(?:ing)? (?:out )?for\b|\bi am waiting\b"
    r"|\bhow (?:many|often) (?:times)?\b|\b(?:stop|never ?mind|forget it|that is all|that['’]s all)\b",
    re.IGNORECASE,
)
"""Waits for something, and so may name what has not been shown."""

EACH_TIME = re.compile(
    r"\b(?:each|every|whenever|any ?time|all the times|posted|informed|again|always)\b", re.IGNORECASE
)
"""Waits for it more than once."""

SPOKEN = re.compile(
    r"\b(?:says?|said|saying|tells?|told|mentions?|mentioned|talks?|talking|talked|explains?|explained"
    r"|speakers?|spoken|words?|heard?|hears?|listen\w*|voices?|announces?|announced|asks?|asked|calls?"
    r"|sings?|states?|according|recalls?|adds that|describes?|narrat\w+)\b",
    re.IGNORECASE,
)
"""Is told, or asked, of what is heard."""

HEARING = re.compile(
    r"\b(?:mention\w*|says|said|saying|hear\w*|listen\w*|words?|speaker|talk\w*|voice|spoken)\b",
    re.IGNORECASE,
)
"""Asks for what is heard."""

EXPLETIVE = re.compile(
    r"\bas (?:it|they|he|she)\b|\bit (?:starts?|begins?|is (?:starting|beginning)) to\b|\b(?:is|was|if"
    r"|when|whenever|once) it (?:rain|snow|get|dark|light|late|cold|hot|time|day|night)\w*"
    r"|\bwhat time is it\b|\bis it (?:that|the|a|an)\b|\bit is (?:\w+ )?(?:time|late|dark|day|night)\b"
)
"""`it` that stands for nothing, and what goes on with the sentence's own subject."""

_GENERIC = """
able action activity actually add added additional allow almost already also always another anything
appear around attention away become begin behind beside between bring by camera carefully carry change
check clearly close come complete completely continue corner current currently describe different
directly easily else end enter entire even every everything evenly exactly fully gently give grab grip
hand hands happen help hold inside instead item items just keep kind know large last later leave let lift
look lot main maybe moment motion move near nearby nearly need new next nothing object objects open
outside part pass past perform person people pick piece pieces place point position possible prepare
present press process pull push quickly quite reach ready really remain remove return reveal set several
show side simply sit size slightly slowly small some somebody someone something stand start still stop
straight surface surroundings tell then thing together tool toward towards try turn upper use using
viewer visible wait watch way while within work yet big little long short full middle animal bird vehicle
food fruit vegetable meat drink liquid ingredient container device machine cloth building owner man woman
men women guy lady cook chef boy girl kid child children group individual everyone everybody begin begins
beginning different similar second seconds minute minutes time times today tonight far fast soft
"""
GENERIC = frozenset(stem(word) for word in _GENERIC.split())
"""Stems so common that they neither give anything away nor need evidence."""

_LEAD = """
tell let know alert notify warn inform informed please keep posted describe narrate explain watch show
guide walk say happen happening something anything someone somebody thing everything whenever each every
time times moment soon remind signal wait waiting listening listen hear word mention mentions speaker see
seen spot notice report update updates call ping shout message give look looking point occur occurs
involve comes into play done play talk eye tab appear appears want need cannot screen sound eyes miss
missed came
"""
LEAD = frozenset(stem(word) for word in _LEAD.split())
"""Stems of the words with which a question waits, apart from what it waits for."""

_FEMALE = (
    "woman women girl girls lady ladies mother grandmother sister daughter aunt actress waitress female wife"
)
_MALE = (
    "man men boy boys guy guys gentleman father grandfather brother son uncle actor waiter male husband dude"
)
_PERSON = """
person people chef cook worker player speaker presenter baker gardener teacher student child children
baby kid host narrator rider driver dancer climber artist mechanic nurse doctor customer climber runner
cyclist lecturer instructor teenager teen toddler baby scout pupil nurse couple friend guest visitor
colleague boss expert crew team cyclist
"""
_ACKNOWLEDGING = "sure okay yes yeah yep nope right certainly understood noted alright fine happen"
ACKNOWLEDGING = frozenset(stem(word) for word in _ACKNOWLEDGING.split())
"""Stems of words that only say that something was understood, or is so."""
AGENT = re.compile(
    r"(?:[a-z]{2,}(?:ist|ian|keeper|maker|worker|player|cleaner|driver|rider|dresser)|(?:teach|train"
    r"|paint|garden|bak|pick|perform|danc|sing|writ|run|runn|swimm|climb|hik|surf|strik|farm|plumb|help"
    r"|lead|lectur|photograph|design|build|read|speak|box|barb|butch|defend|midfield|goalkeep|plumb"
    r"|vend)er|(?:decorat|instruct|act|doct|invent|conduct|vend|operat|visit|direct)or)\Z"
)
"""Looks like somebody who does something: a baker, a librarian."""
FEMALE = frozenset(stem(word) for word in f"{_FEMALE} {_PERSON} she her".split())
MALE = frozenset(stem(word) for word in f"{_MALE} {_PERSON} he his".split())
"""Stems of whom `she` and `he` can stand for."""


def text_fault(text: str, max_words: int, known: str) -> str | None:
    """What is wrong with the form of a text, or None; `known` may say itself what looks like a fault."""
    if not text.strip():
        return "empty"
    if spells_silence(text):
        return f"{NO_REPLY!r} in the text"
    if ROLE.search(text):
        return "a role stands at the start of a line"
    if _is_json(text):
        return "residue of JSON"
    if clean(text).casefold() != " ".join(text.split()).casefold() or len(text.splitlines()) > 1:
        return "line breaks, control characters or chat tokens in the text"
    if residue := said_beyond(LABEL, text, known):
        return f"residue of a form, {residue}"
    if count_words(text) > max_words:
        return f"{count_words(text)} words, more than {max_words}"
    return None


def spells_silence(text: str) -> bool:
    """Whether a reply holds the mark of silence, or is no more than it in whatever spelling."""
    return bool(_SILENCE.search(text)) or normalised(text) == NO_REPLY.lower()


def said_beyond(pattern: re.Pattern[str], text: str, known: str) -> str | None:
    """A match of the pattern that what is known does not say itself, in some form: that may be repeated."""
    found = [match[0] for match in pattern.finditer(text)]
    if not found:
        return None
    allowed = {match[0].casefold() for match in pattern.finditer(known)}
    words = set(stems(known))
    for match in found:
        carrying = stems(match)
        if match.casefold() not in allowed and not (carrying and words.issuperset(carrying)):
            return repr(match)
    return None


def _is_json(text: str) -> bool:
    if _JSON.search(text):
        return True
    if text.strip()[:1] not in "{[":
        return False
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False
