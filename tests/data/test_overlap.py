"""Text shared with benchmarks: found wherever it stands, however it is written; and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.data import overlap
from factory.data.overlap import LEAST, Benchmarks, Shared, words
from factory.tasks.document import Document
from factory.tasks.gsm8k import document as gsm8k
from factory.tasks.mmlu import document as mmlu

LONG = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
ROW = {"question": LONG + " How many in all?", "answer": "She sold 24 in May and 48 before.\n#### 72"}


def found(
    *rows: tuple[str, str], documents: list[Document] | None = None, n: int = 13
) -> list[Shared | None]:
    return Benchmarks([("gsm8k", "gsm8k", documents or [gsm8k(ROW)])], n).find(list(rows))


def test_words_have_no_case_and_no_punctuation() -> None:
    assert words("Don't   STOP: it's 1,000 times\n(“ﬁne”)!") == words("don t stop it s 1 000 times fine")
    assert words("東京は3度") == ["東", "京", "は", "3", "度"]


@given(st.text(st.characters(codec="ascii")))
def test_plain_text_has_the_words_that_any_text_has(text: str) -> None:
    assert [*words(text), "é"] == words(f"{text} é")


def test_a_run_of_n_words_is_found_and_one_of_fewer_is_not() -> None:
    run = LONG.split()
    for place in range(len(run) - 13 + 1):
        inside = " ".join(["Once"] * place + run[place : place + 13] + ["ago"] * 3).upper()
        (shared,) = found((inside, ""))
        assert shared is not None and shared.words == " ".join(words(" ".join(run[place : place + 13])))
        assert found((" ".join(run[place : place + 12]), "x")) == [None]


def test_what_a_row_answers_is_looked_at_too_and_so_is_the_answer_of_the_benchmark() -> None:
    (shared,) = found(("Tell me a story", f"Well: {LONG}"))
    assert shared == Shared("gsm8k", "gsm8k", 0, " ".join(words(LONG)))
    (shared,) = found(("", "how many in all? she sold 24 in may and 48 before 72"))
    assert shared is not None and shared.words.startswith("how many in all she sold 24")


def test_the_frame_of_a_prompt_is_no_part_of_its_question() -> None:
    row = {"question": "Who was it that wrote the oldest of these letters?", "subject": "x", "answer": 1}
    document = mmlu({**row, "choices": ["Ann", "Bob", "Cy", "Di"]})
    (shared,) = found(
        ("so who was it, that wrote the oldest of these letters, then", ""), documents=[document]
    )
    assert shared is not None and shared.words == "who was it that wrote the oldest of these letters"


def test_a_short_question_is_compared_whole() -> None:
    short = Document(("Q: Which of these is true?\nA:",), (" None.",), (0,), "")
    assert len(words("Which of these is true")) < LEAST
    inside = "Which of these is true of a whale that swims in the sea?"
    assert found((inside, ""), ("which of these is TRUE", "All."), documents=[short]) == [
        None,
        Shared("gsm8k", "gsm8k", 0, "which of these is true"),
    ]


def test_the_first_words_and_the_first_document_are_told() -> None:
    other = gsm8k({"question": "a b c d e f g h i j k l m n", "answer": "#### 1"})
    text = f"a b c d e f g h i j k l m n. {LONG}"
    (shared,) = found((text, ""), documents=[gsm8k(ROW), other, other])
    assert shared == Shared("gsm8k", "gsm8k", 1, "a b c d e f g h i j k l m n")


def test_a_hash_alone_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all words have one hash every window agrees, and none is shared."""
    monkeypatch.setattr(overlap, "_hashes", lambda of: np.zeros(len(of), np.uint64))
    assert found((" ".join(f"word{i}" for i in range(60)), "")) == [None]
    (shared,) = found((LONG, ""))
    assert shared is not None and shared.words == " ".join(words(LONG))


letters = st.sampled_from("ab")


@settings(max_examples=150, deadline=None)
@given(
    documents=st.lists(st.lists(letters, min_size=1, max_size=14), min_size=1, max_size=4),
    rows=st.lists(st.tuples(st.lists(letters, max_size=12), st.lists(letters, max_size=12)), max_size=6),
    n=st.integers(2, 10),
)
def test_what_is_found_is_what_a_plain_search_finds(
    documents: list[list[str]], rows: list[tuple[list[str], list[str]]], n: int
) -> None:
    made = [Document((" ".join(text[:-1]),), (f" {text[-1]}",), (0,), "") for text in documents]
    texts = [(" ".join(asked), " ".join(said)) for asked, said in rows]
    for (asked, said), hit in zip(rows, found(*texts, documents=made, n=n), strict=True):
        row = f" {' '.join(asked + said)} "
        wanted = False
        for text in documents:
            runs = [text[i : i + n] for i in range(len(text) - n + 1)]
            runs += [whole for whole in (text[:-1], text) if min(LEAST, n) <= len(whole) < n]
            wanted |= any(f" {' '.join(run)} " in row for run in runs)
            wanted |= any(0 < len(w) < min(LEAST, n) and w == asked for w in (text[:-1], text))
        assert (hit is not None) == wanted
        if hit:
            assert hit.words in row
