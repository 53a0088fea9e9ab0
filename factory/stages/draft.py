"""Draft: what a pruned model is worth as a draft of its base in speculative decoding; the report shows it.

Planned once a model, for recipes with `draft`, behind the texts that the target wrote (respond.py). The
model reads them: of greedy ones whether it would have proposed each token, of sampled ones the chance that
a proposed token is kept. From that follow acceptance and accepted lengths for K = 1..8 proposed tokens
(`factory/drafts/speculative.py`); from measured latencies the speed-up to expect and its best K; and
transformers' own assisted generation confirms both, steps and speed, on some of the prompts.

The record's `facts`, for cards, reports and leaderboards. An estimate is {value, low, high, n}: 95 %
intervals over n prompts (`factory/tasks/shares.py`). `<mode>` is `greedy` or `sampled`.

    target              `base`, or what the recipe names
    blocks, parameters  {draft, target}
    sets                by name {kind: math | instruct | chat | text, trained, texts, tokens, regenerated,
                        held_out}: trained, whether variants were trained on its prompts; the rest of greedy
                        texts; the last two are taken over, from training data and from what drift had the
                        base answer
    precision           of the draft's weights, and so of all that is computed
    temperature         of <mode> sampled
    <mode>              by set, and `all` for the prompts of all sets together, but for those of sets that
                        variants were trained on where there are others:
                        {texts, tokens, rate: estimate, k: [{k, accepted: estimate, tokens: estimate}]};
                        rate = share of tokens accepted where they are proposed, accepted = proposed tokens
                        kept a step, tokens = those and the target's own
    ties                {share, below}: greedy tokens whose two likeliest logits of the draft lie closer
                        than the share `below` of the larger, so that rounding may turn them
    latency             {draft, target, verify: [of 2..9 tokens], behind, rounds}: median seconds of a
                        forward pass with a cache behind so many tokens, one sequence
    forward             by <mode>: [{k, value, low, high}]: speed-up if generation cost nothing but forward
                        passes; the interval is that of acceptance
    expected            likewise, with what generation was measured to cost besides (`Latency.generating`)
    best                by <mode>: the one of `expected` with the highest value
    measured            assisted generation, greedy, with several K: {prompts, rounds, tokens, plain: tokens
                        a second of the target alone, token: seconds for one of them, by_k: [{k,
                        assisted: tokens a second, step: seconds for a step, written: tokens a step,
                        expected: the speed-up of as many tokens a step, as `expected` is reckoned, speed_up:
                        {value, low, high}: median, least and most of the rounds; same_text, same_steps:
                        how many prompts gave the target's text, and of those how many in the very steps
                        that acceptance tells}],
                        and of the fastest of these all its keys; by_set: by set {k, speed_up, prompts} with
                        the K that was the fastest there}
    pays                {removed, k, forward, per_block, besides, a_token, a_step, of, each, why}: from how
                        many removed blocks a draft would make decoding faster at this acceptance, `removed`
                        at what assisted generation was measured to cost, `forward` by the forward passes
                        alone (None where no number would); `each`: as `removed`, by every timing that can
                        tell, here one; per_block and besides: seconds of a forward pass; a_token, a_step:
                        what generating costs over forward passes, see `speculative.Latency`; `why` says
                        what that rests on. The report and cards tell it from the timings of all drafts of
                        the run that have one shape (`factory/drafts/paying.py`)
    others              processors that other processes kept busy while times were taken, on average; None
                        where nobody counts
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.drafts import ALL, TRIED
from factory.errors import FactoryError
from factory.stages import Frozen, Progress
from factory.texts.text import MODES

VERSION = 5
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")
ALONE = True
TYPICAL = 32  # texts of which one of middling length is what latencies are measured behind


class Set(Frozen):
    """A set of prompts: its name, what its prompts are, and whether variants are trained on them."""

    name: str
    kind: str
    trained: bool = False


class Settings(Frozen):
    """What a person chose.

    Attributes:
        sets: of prompts, in the order of the report.
        target: as the recipe names it; `base` for its base.
        temperature: at which the sampled texts were drawn.
        max_new_tokens: the longest response.
        prompts: how many are decoded by assisted generation, of all sets that are part of `all` in turn.
        rounds: how often each.
    """

    sets: tuple[Set, ...] = Field(min_length=1)
    target: str = "base"
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=128, ge=2)
    prompts: int = Field(default=12, ge=1)
    rounds: int = Field(default=3, ge=1)


def run(settings: Settings, inputs: Mapping[str, Path], out: Path, progress: Progress) -> dict[str, Any]:
    """Writes <set>/<mode>/*.parquet: `row`, and for every token of its text `accept` and `rate`.

    Args:
        settings: see `Settings`.
        inputs: `target` and `model`, model folders; `responses.<set>` for every set.
        out: may hold what an interrupted run of the same step wrote; that is kept.
        progress: told the texts read.

    Returns:
        See this module's text.

    Raises:
        FactoryError: the models have not one vocabulary, or no cache that serves.
    """
    from factory import machine
    from factory.drafts import assisted, paying, speculative
    from factory.engines.chats import Chats
    from factory.models import load
    from factory.stages import draft_speed
    from factory.stages.draft_reading import Reading
    from factory.texts import vocabulary

    if why := vocabulary.difference(inputs["target"], inputs["model"]):
        what = f"a draft proposes token ids, and the vocabularies of draft and target differ: {why}"
        raise FactoryError(what, where="draft.target", mend="Use models that share one tokenizer")
    target, draft = load.causal_lm(inputs["target"]), load.causal_lm(inputs["model"])
    for model, role in ((target, "target"), (draft, "models")):
        assisted.refuse_cacheless(model, inputs["target" if model is target else "model"], f"draft.{role}")
    stops = Chats(inputs["target"]).stops
    reading = Reading(settings, inputs, out, progress)
    found: dict[str, Any] = {mode: reading.summary(mode, target, draft) for mode in MODES}
    shutil.rmtree(out / "journal", ignore_errors=True)
    told = [one for one in settings.sets if not one.trained] or settings.sets
    timed = draft_speed.texts(told, inputs, settings.prompts)
    some = [text for _, text in draft_speed.texts(settings.sets, inputs, TYPICAL)]
    behind = draft_speed.typical(some, target, draft)
    watch = machine.Watch()
    latency, rounds = assisted.latency(target, draft, behind)
    whole = {mode: found[mode][ALL] for mode in MODES}
    forward = {mode: latency.by_k(whole[mode]) for mode in MODES}
    ks = sorted({*TRIED, speculative.best(forward["greedy"])["k"]})
    measured = draft_speed.measure(
        assisted.Decoder(target, draft, stops), draft, timed, ks, latency, settings, progress
    )
    generating = latency.generating(measured["token"], {row["k"]: row["step"] for row in measured["by_k"]})
    expected = {mode: generating.by_k(whole[mode]) for mode in MODES}
    facts = {
        "target": settings.target,
        "blocks": {"draft": _blocks(draft), "target": _blocks(target)},
        "parameters": {"draft": draft.num_parameters(), "target": target.num_parameters()},
        "sets": reading.sets,
        "precision": str(draft.dtype).removeprefix("torch."),
        "temperature": settings.temperature,
        **found,
        "ties": {"share": reading.ties / max(1, reading.tokens), "below": reading.below},
        "latency": {
            "draft": latency.draft,
            "target": latency.target,
            "verify": list(latency.verify),
            "behind": len(behind),
            "rounds": rounds,
        },
        "forward": forward,
        "expected": expected,
        "best": {mode: speculative.best(expected[mode]) for mode in MODES},
        "measured": measured,
        "others": watch.others(),
    }
    return {**facts, "pays": paying.pays(facts)}


def _blocks(model: Any) -> int:
    count: int = model.config.get_text_config().num_hidden_layers
    return count
