import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import meta

from datagen.errors import Invalid
from datagen.llm.replies import check_schema, parse_reply, schema_text

NAMES = ("caption", "one_qna", "n_qna", "judge", "repair")
STRICT = {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf"}
"""Keywords that every provider of strict structured outputs knows."""
VALUE = {"repairs": [{"path": "/a", "value": "x"}]}
TEXT = json.dumps(VALUE)


def objects(schema):
    assert set(schema) <= STRICT
    if "properties" in schema:
        yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    for part in [*inner, *([schema["items"]] if "items" in schema else [])]:
        yield from objects(part)


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_strict(name):
    schema = json.loads(schema_text(name))
    meta.validate(schema)
    assert schema["type"] == "object"
    for part in objects(schema):
        assert part["additionalProperties"] is False and part["required"] == list(part["properties"])


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"  \n{TEXT}\n",
        f"\ufeff{TEXT}",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"```json{TEXT}```",
        f"Here you are:\n```json\n{TEXT}\n```\nAnything else?",
        f"<think>{{not this}} ```nor this```</think>\n{TEXT}",
        f"what was thought</think>\n{TEXT}",
        f"<think></think>```json\n{TEXT}```",
        f"```json\n{TEXT}",
    ],
)
def test_wrappings_that_are_tolerated(text):
    assert parse_reply(text, "repair") == VALUE


def test_raw_control_characters_and_fences_inside_strings_stay():
    for inside in ("a\nb", "a\tb", "a\x00b", "a ```json {} ``` b", "}]{["):
        text = TEXT.replace('"x"', f'"{inside}"')
        assert parse_reply(text, "repair")["repairs"][0]["value"] == inside


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "not JSON"),
        ("I cannot help with that.", "not JSON"),
        (f"Sure! {TEXT}", "not JSON"),
        (TEXT[:-1], "not JSON"),
        (TEXT.replace("}]", "},]"), "not JSON"),
        (TEXT + TEXT, "not JSON"),
        (TEXT.replace('"x"', "NaN"), "NaN"),
        (TEXT.replace('"x"', "-Infinity"), "Infinity"),
        ('{"repairs": [], "repairs": []}', "duplicate key"),
        (TEXT.replace('"x"', '"\\ud800"'), "surrogate"),
        (TEXT.replace('"x"', '"\ud800"'), "surrogate"),
        ("[]", "reply: .*object"),
        ("{}", '"repairs" is a required'),
        (TEXT.replace("]}", '], "more": 1}'), "more"),
        (TEXT.replace('"x"', "3"), "reply/repairs/0/value: "),
        (TEXT.replace('"x"', "9" * 5000), "not JSON"),
        ("[" * 100_000, "nested deeper"),
        ('{"a":' * 40 + "1" + "}" * 40, "nested deeper"),
        ('["}","]",' * 5000, "nested deeper"),
        ('"' + "x" * 1_000_001 + '"', "characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, wrong):
    with pytest.raises(Invalid, match=wrong) as failure:
        parse_reply(text, "repair")
    assert len(str(failure.value)) < 600


@pytest.mark.parametrize("piece", ['\\"', '"', '"\\', "[", '"a', "```", "<think>", '{"a":[', "9", "-", "\n"])
def test_hostile_text_costs_no_time(piece):
    begun = time.perf_counter()
    for text in (piece * 200_000, "{" + piece * 200_000, '{"a": "' + piece * 200_000):
        with pytest.raises(Invalid):
            parse_reply(text, "repair")
    assert time.perf_counter() - begun < 3


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet='{}[]",:`\\ntrue1 ', max_size=60), st.sampled_from(NAMES))
def test_any_text_is_a_value_or_invalid(text, name):
    try:
        value = parse_reply(text, name)
    except Invalid:
        return
    check_schema(value, name)
