"""What models are asked: the same words in training as for the teacher, but never the reference."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import prompts

words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)
kinds = st.sampled_from(prompts.KINDS)
TALK = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])


def test_the_kinds_are_there() -> None:
    assert prompts.KINDS == ("chat", "instruct", "math")


@given(kinds, words, st.uuids())
def test_only_the_teacher_reads_the_reference(kind: str, instruction: str, mark: object) -> None:
    reference = f"{{{{ instruction }}}} {mark}"
    training = prompts.messages(kind, instruction)
    teacher = prompts.messages(kind, instruction, reference=reference)
    assert reference in teacher[-1]["content"]
    assert str(mark) not in json.dumps(training)
    assert "eference" not in training[-1]["content"].replace(instruction, "")
    assert teacher[-1]["content"].startswith(training[-1]["content"].rstrip())


@given(words, words)
def test_a_row_s_text_is_never_read_as_a_template(instruction: str, context: str) -> None:
    [message] = prompts.messages("instruct", f"{{% if %}}{instruction}", f"{{{{ 7 * 7 }}}}{context}")
    assert message == {"role": "user", "content": f"{{% if %}}{instruction}\n\n{{{{ 7 * 7 }}}}{context}"}


def test_a_chat_has_the_turns_before_it() -> None:
    said = prompts.messages("chat", "And?", TALK)
    assert said == [*json.loads(TALK), {"role": "user", "content": "And?"}]
    assert prompts.messages("chat", "And?") == said[-1:]


@pytest.mark.parametrize("context", ["hello", "7", '["hi"]', '[{"role": "user"}]', '{"role": "user"}'])
def test_a_context_that_is_no_chat_is_refused(context: str) -> None:
    with pytest.raises(ValueError):
        prompts.messages("chat", "And?", context)
