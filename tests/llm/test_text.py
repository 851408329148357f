import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.llm.text import (
    clean,
    count_words,
    fit,
    normalised,
    numbers,
    rouge_l,
    sentences,
    tokens,
)


def test_words_are_found_in_every_script():
    assert tokens("The pot's LID, twice!") == ("the", "pots", "lid", "twice")
    assert tokens("हिन्दी में") == ("हिन्दी", "में")
    assert tokens("切西红柿") == ("切", "西", "红", "柿")
    assert tokens("Größe ＡＢＣ") == ("grösse", "abc")
    assert normalised("🙂") == "🙂" != normalised("🍅")


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_has_the_words_that_it_has_among_other_letters(text):
    assert tokens(f"{text} é") == (*tokens(text), "é")
    assert count_words(f"{text} é") == count_words(text) + 1


def test_clean_takes_out_what_is_not_text():
    assert clean("a\u202eb\x00c\u2028d\r\ne") == "ab c d e"
    assert clean("<|im_start|>user <image> said </s>") == "user said"
    assert "<image>" not in clean("<im<image>age>")
    assert clean("There was NO REPLY then. nO\nREPLY") == "There was no reply then. no reply"
    assert clean("\ud800x").encode() == b"?x"


def test_sentences_are_capitalised_and_end():
    assert sentences("open the lid. stir it, ") == ("Open the lid.", "Stir it.")
    assert sentences("Coat a 6-oz. cup. Stir.") == ("Coat a 6-oz. cup.", "Stir.")
    assert sentences("1. Take it.\n2. Rinse it\n3. Put it") == ("Take it.", "Rinse it.", "Put it.")
    assert sentences("1. Take it. 2. Rinse it.") == ("Take it.", "Rinse it.")
    assert sentences("This goes\non here.") == ("This goes on here.",)
    assert sentences("我们开始。然后结束") == ("我们开始。", "然后结束。")
    assert sentences("هل أنت هنا؟ نعم") == ("هل أنت هنا؟", "نعم.")
    assert sentences('He said "stop." and left') == ('He said "stop." and left.',)
    assert sentences('He said "stop." And left') == ('He said "stop."', "And left.")
    assert sentences(" ... \n- ") == () and sentences("🙂") == ("🙂.",)
    assert sentences("nO REPLY") == ("No reply.",)


def test_long_text_is_cut_after_a_sentence_or_a_clause_or_not_at_all():
    assert fit("One two three. Four five six.", 4) == "One two three."
    assert fit("One two three, four five six.", 4) == "One two three."
    assert fit("Well, this goes on and on without any end", 5) is None
    assert fit("切菜切菜切菜。" * 40, 12) == "切菜切菜切菜。" * 4
    assert fit("short", 5) == "short"


@given(st.text(max_size=80), st.integers(1, 20))
def test_what_fits_keeps_to_the_limit(text, limit):
    made = fit(" ".join(sentences(text)), limit)
    assert made is None or count_words(made) <= limit


@given(st.text())
def test_sentences_are_safe(text):
    for sentence in sentences(text):
        assert "\n" not in sentence and "NO REPLY" not in sentence and len(sentence.splitlines()) == 1
        assert clean(sentence) == sentence
        sentence.encode()


def test_numbers_have_one_form():
    assert numbers("two cups, 3rd try, 007 and 10:30, twelfth") == {"2", "3", "7", "10", "30", "12"}
    assert numbers("one second, first") == frozenset()


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [("a b c d", "a b c d", 1.0), ("a b c d", "a x c y", 0.5), ("a b", "c d", 0), ("", "a", 0)],
)
def test_rouge_l(one, other, score):
    assert rouge_l(one.split(), other.split()) == pytest.approx(score)


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_rouge_l_equals_the_textbook(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    expected = 2 * table[-1][-1] / (len(one) + len(other)) if one and other else 0.0
    assert rouge_l(one, other) == pytest.approx(expected)


def test_hostile_text_takes_linear_time():
    start = time.perf_counter()
    for text in (
        "." * 100_000 + "x",
        "<i" * 50_000,
        "<|" * 50_000,
        "\n" * 100_000,
        '."' * 50_000,
        ", ," * 30_000,
    ):
        sentences(text)
        fit(text, 5)
    assert time.perf_counter() - start < 5
