"""Our runner beside lighteval's and lm-evaluation-harness' own transformers back ends, on the same documents.

    OMP_NUM_THREADS=2 python tests/benchmarks/evaluate.py --data DIR [--batch-size 8] [--dtype bfloat16]
    python tests/benchmarks/evaluate.py --data DIR --device cuda --size 8b --documents 200

`--data` holds the six datasets of openllm_v1, laid out as `factory evaluate --data` takes them. The model has
random weights, the tokenizer is trained on the rows. Every side and part is a process of its own, one after
another, on the same rendered prompts: its seconds are those of the call alone, its memory the peak of the
process (of the GPU's allocator with `--device cuda`). With `--rounds` the sides take turns and the fastest
time of each counts, since what else runs on a machine only adds to it. The whole suite is summed from seconds
a document times the documents the leaderboard scores. Log-probabilities and predictions of the sides are
compared pairwise. Prints a section for RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

SIDES = ("factory", "lighteval", "lm-eval")
PARTS = {"ARC-25": ("arc",), "MMLU-5": ("mmlu",), "rest": ("hellaswag", "truthfulqa", "winogrande", "gsm8k")}
# Documents the leaderboard scores, and documents scored here (times --documents / 8).
SCORED = {
    "arc": 1172,
    "hellaswag": 10042,
    "mmlu": 14042,
    "truthfulqa": 817,
    "winogrande": 1267,
    "gsm8k": 1319,
}
HERE = {"arc": 8, "hellaswag": 4, "mmlu": 24, "truthfulqa": 12, "winogrande": 12, "gsm8k": 8}
SUBJECT = "high_school_biology"
SIZES = {  # hidden, inner, blocks, heads, key-value heads, vocabulary
    "tiny": (64, 128, 2, 4, 2, 4096),
    "small": (512, 1408, 8, 8, 8, 32000),
    "8b": (4096, 14336, 32, 32, 8, 128256),
}
LONGEST = 4096

Answers = dict[str, list[Any]]


def prepare(data: Path, work: Path, size: str, documents: int) -> None:
    """Trains the tokenizer and writes the rendered prompts of every task."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from factory.tasks import rows
    from factory.tasks.lighteval_compat import questions, requests
    from factory.tasks.suites import SUITES

    asked: dict[str, list[dict[str, Any]]] = {}
    texts: list[str] = []
    for name, task in SUITES["openllm_v1"].items():
        sources = rows.read(task, data / task.dataset.replace("/", "__"), task.shots, None)
        texts += [one.shot for source in sources for one in [*source.scored, *source.examples][:20000]]
        (source,) = [one for one in sources if one.group in (name, SUBJECT)]
        found = questions(
            task, source.group, source.scored, source.examples, task.shots, HERE[name] * documents // 8
        )
        asked[name] = [
            {
                "id": doc.id,
                "task": name,
                "context": doc.query,
                "choices": doc.choices,
                "lengths": [max(1, len(choice) - 1) for choice in doc.choices],
                "normed": task.metric == "acc_norm",
                "until": doc.stop_sequences,
                "most": doc.generation_size,
            }
            for question in found
            for doc in requests(question)
        ]
    (work / "documents.json").write_text(json.dumps(asked))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(32000, SIZES[size][-1]),
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>"
    ).save_pretrained(work / "model")
    config(size).save_pretrained(work / "model")


def config(size: str) -> Any:
    """Of a Llama."""
    from transformers import LlamaConfig

    hidden, inner, blocks, heads, shared, vocabulary = SIZES[size]
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=blocks,
        num_attention_heads=heads, num_key_value_heads=shared, max_position_embeddings=LONGEST,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


def load(size: str, device: str, dtype: str) -> Any:
    """The model, with the same random weights in every process."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model = LlamaForCausalLM(config(size))
    torch.set_default_dtype(torch.float32)
    return model.eval()


def as_docs(rows: list[dict[str, Any]]) -> list[Any]:
    """The documents for lighteval's interface."""
    from lighteval.tasks.requests import Doc

    return [
        Doc(
            query=row["context"], choices=row["choices"], gold_index=0, id=row["id"], task_name=row["task"],
            generation_size=row["most"], stop_sequences=row["until"],
        )
        for row in rows
    ]  # fmt: skip


def factory_side(model: Any, work: Path, batch: int) -> Callable[[list[dict[str, Any]]], list[Any]]:
    """Ours."""
    from transformers import AutoTokenizer

    from factory.tasks.runner import Runner

    return through_lighteval(Runner(model, AutoTokenizer.from_pretrained(work / "model"), batch))


def lighteval_side(model: Any, work: Path, batch: int) -> Callable[[list[dict[str, Any]]], list[Any]]:
    """lighteval's TransformersModel, without its cache."""
    from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig

    settings = TransformersModelConfig(
        model_name=str(work / "model"),
        batch_size=batch,
        max_length=LONGEST,
        device=str(model.device),
        override_chat_template=False,
    )
    runner = TransformersModel.from_model(model, settings)
    runner._cache = None
    return through_lighteval(runner)


def through_lighteval(runner: Any) -> Callable[[list[dict[str, Any]]], list[Any]]:
    """Calls what has lighteval's interface."""

    def answer(rows: list[dict[str, Any]]) -> list[Any]:
        docs = as_docs(rows)
        if rows[0]["most"]:
            return [response.text[0] for response in runner.greedy_until(docs)]
        return [[float(value) for value in response.logprobs] for response in runner.loglikelihood(docs)]

    return answer


def lm_eval_side(model: Any, work: Path, batch: int) -> Callable[[list[dict[str, Any]]], list[Any]]:
    """lm-evaluation-harness' HFLM."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    runner = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=LONGEST)

    def answer(rows: list[dict[str, Any]]) -> list[Any]:
        if rows[0]["most"]:
            settings = [
                {"until": row["until"], "max_gen_toks": row["most"], "do_sample": False} for row in rows
            ]
            asked = [
                Instance("generate_until", row, (row["context"], one), i)
                for i, (row, one) in enumerate(zip(rows, settings, strict=True))
            ]
            return list(runner.generate_until(asked, disable_tqdm=True))
        asked = [
            Instance("loglikelihood", row, (row["context"], choice), i)
            for row in rows
            for i, choice in enumerate(row["choices"])
        ]
        found = iter(runner.loglikelihood(asked, disable_tqdm=True))
        return [[next(found)[0] for _ in row["choices"]] for row in rows]

    return answer


def child(asked: argparse.Namespace) -> None:
    """One side on one part: seconds a task, peak memory, answers."""
    import torch

    work = asked.work
    documents = json.loads((work / "documents.json").read_text())
    model = load(asked.size, asked.device, asked.dtype)
    sides = {"factory": factory_side, "lighteval": lighteval_side, "lm-eval": lm_eval_side}
    answer = sides[asked.side](model, work, asked.batch_size)
    on_gpu = asked.device == "cuda"
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if on_gpu:
        loaded = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    seconds, answers = {}, {}
    for task in PARTS[asked.part]:
        began = time.perf_counter()
        answers[task] = answer(documents[task])
        seconds[task] = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if on_gpu:
        peak = torch.cuda.max_memory_allocated()
    result = {"seconds": seconds, "peak": peak, "loaded": loaded, "answers": answers}
    (work / f"{asked.side} {asked.part}.json").write_text(json.dumps(result))


def quicker(before: dict[str, Any] | None, made: dict[str, Any]) -> dict[str, Any]:
    """Two rounds as one: the fastest time of every task, the highest peak."""
    if before is None:
        return made
    seconds = {task: min(taken, before["seconds"][task]) for task, taken in made["seconds"].items()}
    return {**made, "seconds": seconds, "peak": max(made["peak"], before["peak"])}


def predicted(rows: list[dict[str, Any]], answers: list[Any]) -> list[Any]:
    """What each document's answer comes to: the chosen choice's place, or the text."""
    if rows[0]["most"]:
        return [text.strip() for text in answers]
    together: dict[str, list[float]] = {}
    for row, values in zip(rows, answers, strict=True):
        lengths = row["lengths"] if row["normed"] else [1] * len(values)
        together.setdefault(row["id"], []).extend(
            value / length for value, length in zip(values, lengths, strict=True)
        )
    return [max(range(len(values)), key=values.__getitem__) for values in together.values()]


def section(asked: argparse.Namespace, found: dict[tuple[str, str], Any]) -> list[str]:
    """The tables."""
    documents = json.loads((asked.work / "documents.json").read_text())
    count = {task: len({row["id"] for row in rows}) for task, rows in documents.items()}
    second = {
        (side, task): found[side, part]["seconds"][task] / count[task]
        for side in asked.sides
        for part, tasks in PARTS.items()
        if part in asked.parts
        for task in tasks
    }
    others = [side for side in asked.sides if side != "factory"]
    lines = ["| | documents |" + "".join(f" {side}, documents/s |" for side in asked.sides)]
    lines[0] += "".join(f" times {side} |" for side in others)
    lines.append("|---|--:|" + "--:|" * (len(asked.sides) + len(others)))

    def row(name: str, documents: str, taken: dict[str, float]) -> str:
        cells = [f"{1 / taken[side]:.2f}" for side in asked.sides]
        cells += [f"{taken[side] / taken['factory']:.1f}" for side in others if "factory" in taken]
        return f"| {name} | {documents} | " + " | ".join(cells) + " |"

    done = [task for task in SCORED if (asked.sides[0], task) in second]
    for task in done:
        lines.append(row(task, str(count[task]), {side: second[side, task] for side in asked.sides}))
    if len(done) == len(SCORED):
        whole = {side: sum(SCORED[t] * second[side, t] for t in SCORED) for side in asked.sides}
        mean = {side: value / sum(SCORED.values()) for side, value in whole.items()}
        lines.append(row("suite, weighted", f"{sum(SCORED.values())}", mean))
    lines += [
        "",
        "| peak memory, GB (above the loaded model) |" + "".join(f" {part} |" for part in asked.parts),
    ]
    lines.append("|---|" + "--:|" * len(asked.parts))
    for side in asked.sides:
        ones = [found[side, part] for part in asked.parts]
        cells = [f"{one['peak'] / 1e9:.2f} ({(one['peak'] - one['loaded']) / 1e9:.2f})" for one in ones]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    for side in others:
        cells = [f"{found['factory', part]['peak'] / found[side, part]['peak']:.2f}" for part in asked.parts]
        lines.append(f"| factory / {side} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| pair | largest difference of a log-probability | predictions that differ |",
        "|---|--:|--:|",
    ]
    for one, other in combinations(asked.sides, 2):
        far, flips, texts, of, of_texts = 0.0, 0, 0, 0, 0
        for part in asked.parts:
            for task in PARTS[part]:
                a, b = (found[side, part]["answers"][task] for side in (one, other))
                pairs = list(zip(predicted(documents[task], a), predicted(documents[task], b), strict=True))
                differ = sum(x != y for x, y in pairs)
                if documents[task][0]["most"]:
                    texts, of_texts = texts + differ, of_texts + len(pairs)
                    continue
                flips, of = flips + differ, of + len(pairs)
                far = max(
                    far, *(abs(x - y) for v, w in zip(a, b, strict=True) for x, y in zip(v, w, strict=True))
                )
        generated = f"; texts {texts} of {of_texts}" if of_texts else ""
        lines.append(f"| {one}, {other} | {far:.1e} | {flips} of {of}{generated} |")
    return lines


def main() -> None:
    """Runs what was asked for and prints the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the six datasets")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="float32; on a GPU bfloat16")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--documents", type=int, default=8, help="of ARC; the other tasks in proportion")
    parser.add_argument("--rounds", type=int, default=1, help="in turns; the fastest of each side counts")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--work", type=Path, help="keeps tokenizer, prompts and answers")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # what the processes are given
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.dtype = asked.dtype or ("bfloat16" if asked.device == "cuda" else "float32")
    if asked.side:
        return child(asked)
    with tempfile.TemporaryDirectory() as scratch:
        asked.work = asked.work or Path(scratch)
        asked.work.mkdir(parents=True, exist_ok=True)
        if not (asked.work / "documents.json").exists():
            prepare(asked.data, asked.work, asked.size, asked.documents)
        found = {}
        root = str(Path(__file__).parents[2])
        for part, _, side in product(asked.parts, range(asked.rounds), asked.sides):
            given = ["--side", side, "--part", part, "--work", str(asked.work), "--size", asked.size]
            given += ["--device", asked.device, "--dtype", asked.dtype]
            given += ["--batch-size", str(asked.batch_size)]
            environment = {
                **os.environ,
                "PYTHONPATH": root,
                "HF_HUB_OFFLINE": "1",
                "HF_HOME": str(asked.work),
            }
            subprocess.run([sys.executable, __file__, *given], check=True, env=environment)
            made = json.loads((asked.work / f"{side} {part}.json").read_text())
            found[side, part] = quicker(found.get((side, part)), made)
        lines = section(asked, found)
    print(f"## Evaluation ({datetime.date.today()})\n")
    print(f"`python {' '.join(sys.argv)}` on {machine()}.\n")
    print("\n".join(lines))


def machine() -> str:
    """What it ran on."""
    from factory import machine as own

    facts = own.facts()
    threads = os.environ.get("OMP_NUM_THREADS", "as many threads as cores")
    return f"{facts['cores']} cores ({facts['cpu']}), {threads} threads, {platform.release()}"


if __name__ == "__main__":
    main()
