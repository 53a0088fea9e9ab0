"""A model writes behind prompts, tokens in and tokens out, and what it wrote outlives a kill.

Above the engines, under the stages that look at a model's own texts token by token (respond, drift): texts
and their tokens do not determine each other. Texts are appended to a journal as they are finished, in any
order; an engine holds no more than a window of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from factory import engines
from factory.engines import Request, Sampling
from factory.errors import FactoryError
from factory.json_lines import JsonLines
from factory.texts.text import Text


class Writer:
    """A model that writes; loaded when the first text is missing.

    Args:
        folder: the model's, with a chat template.
        part: of the recipe, that wants the texts; errors name it.
        engine: who generates, `transformers` or `vllm`.
        batch_size: texts in work at once; None leaves it to the engine.
    """

    def __init__(
        self, folder: Path, part: str, engine: engines.Name = "transformers", batch_size: int | None = None
    ) -> None:
        self._folder, self._part, self._name, self._size = folder, part, engine, batch_size
        self._engine: Any = None

    def write(
        self,
        requests: Iterable[Request],
        sampling: Sampling,
        journal: JsonLines,
        told: Callable[[int], None],
        known: Sequence[Text] = (),
    ) -> list[Text]:
        """The texts behind prompts, in the order of their rows; none is missing.

        Args:
            requests: each with `id`, the prompt's row, and `prompt`, its tokens.
            sampling: how tokens are picked.
            journal: keeps each text as it comes; what is in it is not generated again.
            told: how many there are so far.
            known: greedy texts of some of the prompts, from elsewhere. Those that the model, reading them,
                would write again token by token, but for ties within rounding, are taken over; of the engine
                `transformers`.

        Raises:
            FactoryError: the model cannot be loaded, or the device has too little memory.
        """
        found = {line["row"]: Text(**line) for line in journal.read()}
        left = {request.id: request for request in requests if request.id not in found}
        told(len(found))
        if left:
            for text in self._made(left, sampling, [text for text in known if text.row in left]):
                journal.add([vars(text)])
                found[text.row] = text
                told(len(found))
        return [found[row] for row in sorted(found)]

    def _made(self, left: dict[int, Request], sampling: Sampling, known: Sequence[Text]) -> Iterator[Text]:
        """Texts as they are finished; those that are taken over first."""
        try:
            self._engine = self._engine or engines.load(self._name, self._folder, self._size)
            for text in self._confirmed(known):
                del left[text.row]
                yield text
            for made in self._engine.generate(left.values(), sampling):
                yield Text(made.id, list(left[made.id].prompt), list(made.tokens), made.finish)
        except FactoryError as error:  # an engine names the key of regeneration
            where = error.where and error.where.replace("regenerate.", f"{self._part}.")
            raise FactoryError(error.what, where=where, mend=error.mend) from error

    def _confirmed(self, texts: Sequence[Text]) -> Iterator[Text]:
        """Those that the model would write greedily."""
        if not texts:
            return
        from factory.texts.measures import greedily, tie
        from factory.texts.reader import Reader

        model = self._engine.model
        read = Reader(greedily(tie(model)), model, where=self._part).read(texts)
        yield from (text for text, figures in read if figures["greedy"].all())
