"""Cards from a finished run: what they say, what they may not say, and what is refused."""

from __future__ import annotations

import html
import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from card_runs import COMMIT, NAME, build
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries
from hypothesis import example, given
from hypothesis import strategies as st

from factory import cli
from factory.errors import FactoryError
from factory.hub import card_words
from factory.hub.card import Card, dataset_card, model_card
from factory.hub.card_metadata import size_category

BASE = f"hub:org/base@{COMMIT}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run on the sandbox."""
    return build(tmp_path_factory.mktemp("runs"), tiny_model)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run on real benchmarks, scored whole."""
    return build(tmp_path_factory.mktemp("whole"), tiny_model, base=BASE, suite="openllm_v1")


def parsed(card: Card) -> Any:
    return ModelCard(card.text).data


def body(card: Card) -> str:
    """The words of a card: no metadata, no code, no links."""
    text = card.text.split("\n---\n", 1)[1]
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)|`[^`]*`", "", text)


def numbers(content: Any) -> set[str]:
    """Every way in which the figures of records may be printed."""
    found: set[str] = set()
    if isinstance(content, dict):
        return set(chain.from_iterable(map(numbers, [*content, *content.values()])))
    if isinstance(content, list | tuple):
        return set(chain.from_iterable(map(numbers, content)))
    if isinstance(content, str):
        return set(re.findall(r"\d[\d,]*(?:\.\d+)?", content))
    if isinstance(content, bool) or not isinstance(content, int | float):
        return found
    ways = ("{:,}", "{:g}", "{:.1f}", "{:.3f}", "{:.0f}")
    scaled = (content, 100 * content, content / 1e9)
    found |= {way.format(abs(value)) for way in ways for value in scaled} | {f"{content / 1e9:.2f}"}
    minutes, seconds = divmod(round(abs(content)), 60)  # of a time
    return found | {f"{minutes % 60}", f"{seconds:02}", f"{seconds}", f"{minutes // 60}"}


def test_no_figure_that_is_not_in_a_record(run: Path) -> None:
    from factory.figures import size_notes, size_rows
    from factory.hub.card_run import finished
    from factory.models.anatomy import of
    from factory.sandbox import model_folder

    read = finished(run)
    parameters = read.records["prune"]["facts"]["parameters"]["base"]
    sizes = [of(model_folder()), of(read.model_folder("merged"))]
    allowed = numbers(
        [read.report, dict(read.records), size_rows(sizes, 4096, "bfloat16"), size_notes(sizes)]
    )
    allowed |= numbers([1 - model["parameters"] / parameters for model in read.report["models"]])
    allowed |= {"1.0", "2410.09982", "4,096"}  # the paper's number, the context of the figures
    for card in (
        *(model_card(run, name, "org/m", {}) for name in ("merged", "math-self", "math-sft", "pruned")),
        dataset_card(run, "math", "org/d", {}, "mit"),
    ):
        said = set(re.findall(r"\d[\d,]*(?:\.\d+)?", html.unescape(body(card))))
        invented = {number.rstrip(",") for number in said} - allowed
        assert not invented


def test_scores_stand_beside_base_pruned_and_sft(run: Path) -> None:
    text = body(model_card(run, "merged", "org/m", {}))
    assert "| task | **merged** | base | pruned | math-sft |" in text
    report = json.loads(next(run.parent.glob("store/report/*/report.json")).read_text())
    merged = next(model for model in report["models"] if model["name"] == "merged")
    for score in (*merged["scores"].values(), merged["recovery"]):
        low, high = f"{100 * score['low']:.1f}", f"{100 * score['high']:.1f}"
        assert f"{100 * score['value']:.1f} [{low},\N{NO-BREAK SPACE}{high}]" in text


def test_the_words_tell_blocks_data_selection_and_pictures(run: Path) -> None:
    card = model_card(run, "math-self", "org/m", {"math": "org/math-rows"})
    for said in (
        "3 decoder blocks of 12 removed", "blocks 6..8, 0-based, of 12", "[org/math-rows]",
        f"[openai/gsm8k](https://huggingface.co/datasets/openai/gsm8k/tree/{COMMIT})",
        "| math | 100 | 90 (90.0 %) | 10 |", "| math | answer differs | 9 |", "images/recovery.png",
        "arXiv:2410.09982", "Test CPU", "vllm serve org/m", "assistant_model=draft",
    ):  # fmt: skip
        assert said in card.text
    pictures = ("recovery", "importance", "learning_curves")
    assert set(card.files) == {f"images/{name}.png" for name in pictures}
    assert "shift" not in card.text.lower()  # nothing measured it


def test_metadata_of_a_merge(whole: Path) -> None:
    parts = {"math-self": "org/a", "text-self": "org/b", "math": "org/math-rows"}
    data = parsed(model_card(whole, "merged", "org/llama-x", parts, "mit"))
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "transformers", "text-generation")
    assert data.base_model == ["org/base", "org/a", "org/b"] and data.base_model_relation == "merge"
    assert data.datasets == ["org/math-rows", "openai/gsm8k", "tatsu-lab/alpaca"]
    assert "arxiv:2410.09982" in data.tags and "merge" in data.tags and data.model_name == "llama-x"
    assert data.language is None  # nobody could be asked


def test_metadata_of_other_variants(whole: Path) -> None:
    for name in ("pruned", "math-sft", "merged"):
        data = parsed(model_card(whole, name, "org/x", {}, "mit"))
        assert data.base_model == ["org/base"] and data.base_model_relation == "finetune"
    assert parsed(model_card(whole, "pruned", "org/x", {}, "mit")).datasets is None
    assert "self-data-distillation" not in parsed(model_card(whole, "math-sft", "org/x", {}, "mit")).tags


def test_the_model_index_has_every_task_with_its_shots(whole: Path) -> None:
    data = parsed(model_card(whole, "merged", "org/x", {}, "mit"))
    found = {result.dataset_type: result for result in data.eval_results}
    assert set(found) == {"allenai/ai2_arc", "cais/mmlu", "openai/gsm8k"}
    arc = found["allenai/ai2_arc"]
    assert arc.dataset_args == {"num_few_shot": 25} and "(25-shot)" in arc.dataset_name
    assert (arc.dataset_config, arc.dataset_split, arc.dataset_revision) == ("ARC-Challenge", "test", COMMIT)
    assert 1 < arc.metric_value < 100 and arc.metric_type == "acc_norm"


def test_whole_scores_of_registered_benchmarks_are_results(whole: Path) -> None:
    import yaml

    card = model_card(whole, "merged", "org/x", {}, "mit")
    results = {name: content for name, content in card.files.items() if name.startswith(".eval_results/")}
    assert set(results) == {".eval_results/gsm8k.yaml"}
    entry = parse_eval_result_entries(yaml.safe_load(results[".eval_results/gsm8k.yaml"]))[0]
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("openai/gsm8k", "gsm8k", COMMIT)
    scored = {result.dataset_type: result for result in parsed(card).eval_results}
    assert entry.value == scored["openai/gsm8k"].metric_value and "5-shot" in entry.notes


def test_limited_scores_are_marked_everywhere_and_are_no_results(tmp_path: Path, tiny_model: Path) -> None:
    run = build(tmp_path, tiny_model, base=BASE, suite="openllm_v1", limit=12)
    card = model_card(run, "merged", "org/x", {}, "mit")
    assert not [name for name in card.files if name.startswith(".eval_results/")]
    for result in parsed(card).eval_results:
        assert "limited to 12 documents" in result.dataset_name and "not comparable" in result.dataset_name
    assert "(not comparable, see below)" in card.text and "Only the first 12 documents" in card.text
    assert "Limited to 12 documents of each task or subject, not comparable." in card.text


def test_the_sandbox_is_marked_and_gives_no_results(run: Path) -> None:
    card = model_card(run, "merged", "org/x", {})
    assert "Made on the factory's sandbox" in card.text and "sandbox" in parsed(card).tags
    assert all("made on the sandbox" in result.dataset_name for result in parsed(card).eval_results)
    assert parsed(card).base_model is None and parsed(card).license == "apache-2.0"
    assert not [name for name in card.files if name.startswith(".eval_results/")]


def test_a_dataset_card_tells_source_template_counts_and_examples(run: Path) -> None:
    card = dataset_card(run, "math", "org/rows", {"math-self": "org/model"}, "mit")
    data = DatasetCard(card.text).data
    assert (data.license, data.size_categories, data.source_datasets) == ("mit", "n<1K", ["openai/gsm8k"])
    splits = [{"split": "train", "path": "data/train-*.parquet"}]
    assert data.configs == [{"config_name": "default", "data_files": splits}]
    for said in (
        "Reference solution: {{ reference }}", "| original | answer differs | 9 |", "`final_number`",
        f"[openai/gsm8k](https://huggingface.co/datasets/openai/gsm8k/tree/{COMMIT})", "[org/model]",
        'load_dataset("org/rows", split="train")', "&#60;5&#62; &#35;&#35;&#35;&#35; 5",
    ):  # fmt: skip
        assert said in card.text


@given(st.text())
@example("one\rtwo\r\nthree")
def test_any_text_is_one_cell_of_a_table(text: str) -> None:
    cell = card_words.cell(text)
    assert not set("\r\n|<>`*_[]") & set(cell)


@given(st.text())
def test_any_question_is_quoted_as_it_is(text: str) -> None:
    assert eval(card_words.quoted(text)) == text


@given(st.integers(0, 10**13))
@example(999)
@example(1000)
@example(10**12)
def test_a_size_category_holds_the_number(rows: int) -> None:
    units = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

    def bound(word: str) -> int:
        return int(word[:-1]) * units[word[-1]]

    said = size_category(rows)
    low, high = re.fullmatch(r"(?:(\w+)<)?n(?:<(\w+)|>(\w+))", said).group(1, 2)  # type: ignore[union-attr]
    assert (bound(low) if low else 0) <= rows
    assert rows < bound(high) if high else rows >= 10**12


def test_folders_of_this_machine_are_told_by_name(tmp_path: Path, tiny_model: Path) -> None:
    base = tmp_path / "secret" / "my-base"
    base.parent.mkdir()
    base.symlink_to(tiny_model)
    run = build(tmp_path / "runs", tiny_model, base=f"folder:{base}@f00d")
    text = model_card(run, "merged", "org/x", {}, "mit").text
    assert "my-base" in text and "f00d" in text
    assert "secret" not in text and "/home/somebody" not in text and "model: tiny" in text


def test_energy_and_cost_are_not_invented(run: Path) -> None:
    assert "Energy and cost were not recorded" in model_card(run, "merged", "org/x", {}).text


@pytest.mark.parametrize(
    ("name", "mend"),
    [("merge", "Write 'merged'"), ("base", "Name one of pruned"), ("math", "known are"), ("", "Known are")],
)
def test_an_unknown_variant_is_refused(run: Path, name: str, mend: str) -> None:
    with pytest.raises(FactoryError, match=re.escape(mend)):
        model_card(run, name, "org/x", {})


def test_a_set_that_was_not_regenerated_is_refused(run: Path) -> None:
    with pytest.raises(FactoryError, match='no regenerated dataset "merged"'):
        dataset_card(run, "merged", "org/x", {})


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    run = build(tmp_path, tiny_model)
    page = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**page, "finished": None}))
    with pytest.raises(FactoryError, match="is not finished"):
        model_card(run, "merged", "org/x", {})
    (run / "run.json").write_text(json.dumps(page))
    weights = next(tmp_path.glob("store/merge/*/model/model.safetensors"))
    weights.write_bytes(b"cut")
    with pytest.raises(FactoryError, match="not finished: merge/merged is missing"):
        model_card(run, "math-self", "org/x", {})


def test_a_sweep_has_cards_of_its_points_alone(tmp_path: Path, tiny_model: Path) -> None:
    run = build(tmp_path, tiny_model)
    page = json.loads((run / "run.json").read_text())
    (run / "drop=2").mkdir()
    (run / "drop=2" / "run.json").write_text(json.dumps({**page, "name": f"{NAME}/drop=2"}))
    assert "# m\n" in model_card(run / "drop=2", "merged", "org/m", {}).text
    (run / "run.json").write_text(json.dumps({**page, "points": ["drop=2"]}))
    with pytest.raises(FactoryError, match=f"Name one of its points: {NAME}/drop=2"):
        model_card(run, "merged", "org/x", {})


def test_the_command_prints_the_best_and_writes_pictures_beside(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(run.parent)]
    assert cli.call(["card", NAME, *where]) == 0
    assert f"# {NAME}-merged\n" in capsys.readouterr().out
    out = tmp_path / "cards" / "README.md"
    assert cli.call(["card", NAME, "math-self", "--out", str(out), *where]) == 0
    assert "# llama-drop3-math-self\n" in out.read_text()
    for picture in re.findall(r"!\[[^]]*\]\(([^)]*)\)", out.read_text()):
        assert (out.parent / picture).read_bytes().startswith(b"\x89PNG")
    assert cli.call(["card", NAME, "text", "--license", "mit", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "text"


def test_the_command_refuses_in_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["card", "nothing"], ["card", NAME, "megred"], ["card", NAME, "math"]):
        assert cli.call([*arguments, "--runs-dir", str(run.parent)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_misspelt_licence_is_no_cards(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["card", NAME, "--license", "apche-2.0", "--runs-dir", str(run.parent)]) == 2
    said = capsys.readouterr().err
    assert "--license: 'apche-2.0' is no licence that the Hub knows. Write 'apache-2.0'" in said


def test_the_recipe_is_printed_with_the_revisions_that_were_used(run: Path) -> None:
    import yaml

    text = model_card(run, "math-self", "org/x", {}).text
    recipe = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert recipe["datasets"]["math"] == {"id": "openai/gsm8k", "revision": COMMIT}
    assert recipe["prune"]["calibration"]["revision"] == "b" * 40
    assert "revision" not in recipe["base"]  # the sandbox has none


def test_records_of_another_version_are_one_line(tmp_path: Path, tiny_model: Path) -> None:
    run = build(tmp_path, tiny_model)
    for files, key in (
        ("train/*/record.json", "freeze"),
        ("prune/*/record.json", "parameters"),
        ("evaluate/*/record.json", "tasks"),
        ("report/*/report.json", "models"),
        ("report/*/report.json", "deviations"),
    ):
        whole = {path: path.read_text() for path in tmp_path.glob(f"store/{files}")}
        for path, text in whole.items():  # of the same size, so that nothing seems damaged
            path.write_text(text.replace(f'"{key}":', f'"{key.upper()}":'))
        with pytest.raises(FactoryError, match=rf"{key}.*run the recipe again") as caught:
            model_card(run, "math-self", "org/x", {})
        assert "\n" not in str(caught.value)
        for path, text in whole.items():
            path.write_text(text)
