"""The parts that the base's drift and a model's have in common: answer, read, embed, count.

Under drift.py, which says what is measured and puts the parts in order. Models are loaded for one part and
given back behind it, so that no more than two are in memory at once.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory import parquet
from factory.data.rows import iterate_texts
from factory.drift import figures
from factory.drift.embed import Embedder, cosines
from factory.drift.figures import Rows, figure
from factory.engines import Request, Sampling
from factory.engines.chats import Chats
from factory.engines.writer import Writer
from factory.errors import FactoryError
from factory.json_lines import JsonLines
from factory.models import load
from factory.stages import Progress
from factory.texts import logits, vocabulary
from factory.texts.measures import divergence, surprise
from factory.texts.reader import Figures, Reader
from factory.texts.text import Text

if TYPE_CHECKING:
    from factory.stages.drift import Settings

RESPONSES, VECTORS, ROWS, TEXT = "responses.parquet", "embeddings.npy", "drift.parquet", "text.parquet"
Answers = Sequence[tuple[str, Text]]
"""Responses in the order of their prompts: in words, and in the tokens in which they were generated."""


@dataclass
class Work:
    """One step's work; see the stage for what the arguments are."""

    settings: Settings
    inputs: Mapping[str, Path]
    out: Path
    prompts: Sequence[Mapping[str, Any]]
    progress: Progress
    _texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.settings.text:  # read before anything is computed: a broken row is told at once
            self._texts = list(iterate_texts(self.inputs["text"], self.settings.text.data))

    # ------------------------------------------------------------ the passes

    def answers(self, role: str, prompts: Sequence[Sequence[int]]) -> Answers:
        """What a model answers greedily to prompts, which are tokens."""
        chosen = self.settings
        try:
            made = Writer(self.inputs[role], "drift", chosen.engine, chosen.batch_size).write(
                [Request(i, prompt=tuple(ids)) for i, ids in enumerate(prompts)],
                Sampling(chosen.max_new_tokens),
                JsonLines(self.out / "responses.jsonl"),
                lambda done: self.progress(done, len(prompts), "responses"),
            )
        finally:
            _free()
        chats = Chats(self.inputs[role])
        return [(chats.text(text.response), text) for text in made]

    def read(self, answers: Sequence[Text]) -> dict[int, dict[str, Any]]:
        """Has the base, and the model if there is one, read the base's answers; then general text."""
        folders = [self.inputs[role] for role in ("base", "model") if role in self.inputs]
        models = [load.causal_lm(folder) for folder in folders]
        if len(models) > 1:
            _check_tokens(folders, models)
        total, done = len(answers) + len(self._texts), 0

        def told(here: int) -> None:
            self.progress(done + here, total, "texts read")

        reader = Reader(divergence if len(models) > 1 else surprise, *models, where="drift")
        judged = reader.kept(answers, JsonLines(self.out / "judged.jsonl"), _sums, told)
        if self.settings.text:
            texts = self._general(self.settings.text.max_tokens, folders[0], models)
            reader, done = Reader(surprise, models[-1], where="drift"), len(answers)
            found = reader.kept(texts, JsonLines(self.out / "text.jsonl"), _sums, told)
            rows = [{"id": text.row, **found.get(text.row, _NONE)} for text in texts]
            parquet.write(
                self.out / TEXT, [{name: row[name] for name in ("id", "tokens", "nll")} for row in rows]
            )
        del models, reader
        _free()
        return judged

    def _general(self, longest: int, folder: Path, models: Sequence[Any]) -> list[Text]:
        """General text in tokens; of the first, in front of which nothing stands, nothing is said."""
        encode = load.tokenizer(folder)
        limits = [model.config.get_text_config().to_dict().get("max_position_embeddings") for model in models]
        longest = min([longest, *(limit for limit in limits if isinstance(limit, int))])
        cut = [encode(text, truncation=True, max_length=longest)["input_ids"] for text in self._texts]
        return [Text(row, ids[:1], ids[1:], "stop") for row, ids in enumerate(cut)]

    def vectors(self, answers: Answers) -> tuple[Any, dict[str, Any]]:
        """The answers as vectors, and what made them, for the record."""
        named = self.settings.embedding
        embedder = Embedder(self.inputs["embedding" if named else "base"], sentence=named is not None)
        done = 0

        def told(more: int) -> None:
            nonlocal done
            done += more
            self.progress(done, len(answers), "responses compared")

        made = embedder.vectors([words for words, _ in answers], told)
        facts = {
            "name": named or "the base's own mean hidden state",
            "kind": "sentence" if named else "hidden state",
            "pooling": embedder.pooling,
        }
        del embedder
        _free()
        return made, facts

    # ------------------------------------------------------------ what they add up to

    def rows(
        self,
        judged: Mapping[int, Mapping[str, float]],
        similar: Sequence[float] = (),
        same: Sequence[bool] = (),
    ) -> Rows:
        """The measured prompts column by column: sums over each one's judged tokens."""
        found = [judged.get(i, _NONE) for i in range(len(self.prompts))]
        columns: dict[str, Sequence[float]] = {name: [one.get(name, 0.0) for one in found] for name in _NONE}
        if similar:
            columns |= {"similarity": similar, "identical": [float(equal) for equal in same]}
        return Rows([prompt["dataset"] for prompt in self.prompts], columns)

    def figure(self, rows: Rows, name: str) -> dict[str, Any] | None:
        """A figure with its interval."""
        found = figure(rows, name, self.settings.bootstrap, self.settings.seed)
        return found.estimate if found else None

    def counts(self, answers: Answers, rows: Rows) -> dict[str, Any]:
        """How much was answered and read."""
        return {
            "responses": len(answers),
            "truncated": sum(text.finish == "length" for _, text in answers),
            "tokens": int(sum(rows.columns["tokens"])),
        }

    def text(self) -> dict[str, Any]:
        """General text, for the record."""
        chosen = self.settings
        if chosen.text is None:
            return {"text": None, "text_why": chosen.text_why}
        own = parquet.read(self.out / TEXT)
        told: dict[str, Any] = {
            "dataset": chosen.text.called,
            "texts": len(own),
            "tokens": sum(row["tokens"] for row in own),
            "calibrated": chosen.text.calibrated,
        }
        files = {"perplexity": own}
        if "drift" in self.inputs:
            files["perplexity_base"] = parquet.read(self.inputs["drift"] / TEXT)
        for name, rows in files.items():
            nll, tokens = [row["nll"] for row in rows], [row["tokens"] for row in rows]
            found = figures.perplexity(nll, tokens, chosen.bootstrap, chosen.seed)
            told[name] = found.estimate if found else None
        return {"text": told}

    def unrelated(self, vectors: Any) -> dict[str, Any] | None:
        """The cosine of each answer with the next one of its dataset: what any two have in common."""
        names = [prompt["dataset"] for prompt in self.prompts]
        similar, owners = [], []
        for name in dict.fromkeys(names):
            own = vectors[[place for place, other in enumerate(names) if other == name]]
            similar += cosines(own, np.roll(own, -1, axis=0), [False] * len(own))
            owners += [name] * len(own)
        return self.figure(Rows(owners, {"similarity": similar}), "similarity")

    # ------------------------------------------------------------ files

    def save_vectors(self, vectors: Any) -> None:
        """Keeps the base's vectors, whole or not at all."""
        beside = self.out / f"part-{VECTORS}"
        np.save(beside, vectors)
        beside.replace(self.out / VECTORS)

    def alike(self, theirs: Sequence[str], vectors: Any, ours: Answers) -> tuple[Any, list[bool]]:
        """How alike the base's answers, in words, and the model's are, and which are the same."""
        same = [one == other for one, (other, _) in zip(theirs, ours, strict=True)]
        return cosines(np.load(self.inputs["drift"] / VECTORS), vectors, same), same

    def save_rows(self, rows: Rows, answers: Answers) -> None:
        """Keeps a row a prompt."""
        made = [
            {
                **{name: prompt[name] for name in ("id", "dataset", "row")},
                **{name: values[place] for name, values in rows.columns.items()},
                "response": answers[place][0],
                "finish": answers[place][1].finish,
            }
            for place, prompt in enumerate(self.prompts)
        ]
        parquet.write(self.out / ROWS, made)


_NONE: Mapping[str, float] = {"tokens": 0, "kl": 0.0, "agreed": 0.0, "nll_base": 0.0, "nll": 0.0}
"""What is found where no token could be judged."""


def _sums(figures: Figures) -> dict[str, float]:
    """What is kept of a text: sums over its tokens, in double precision."""
    return {"tokens": len(figures["nll"]), **{name: float(each.sum()) for name, each in figures.items()}}


def _check_tokens(folders: Sequence[Path], models: Sequence[Any]) -> None:
    """Refuses two models whose tokens differ: there is no divergence between them."""
    sizes = [logits.width(model) for model in models]
    why = vocabulary.difference(*folders)
    if sizes[0] != sizes[1]:
        why = f"one has {sizes[0]:,} logits, the other {sizes[1]:,}"
    if why:
        what = f"drift: the vocabularies of the base and this model differ: {why}"
        mend = "Compare a model with the base whose tokenizer it has"
        raise FactoryError(what, where=str(folders[1]), mend=mend)


def _free() -> None:
    """Gives back what unused models hold, so that the next has room."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
