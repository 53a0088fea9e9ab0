"""MMLU: four answers to questions of many subjects, by letter (cais/mmlu, one config a subject).

    The following are multiple choice questions (with answers) about abstract algebra.

    Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.
    A. 0
    B. 1
    C. 2
    D. 3
    Answer: B

Scored by accuracy; the task's score is the mean over the subjects' means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.tasks.document import Document, marked
from factory.wording import counted

LETTERS = "ABCD"
SUBJECTS = (
    "abstract_algebra", "anatomy", "astronomy", "business_ethics", "clinical_knowledge", "college_biology",
    "college_chemistry", "college_computer_science", "college_mathematics", "college_medicine",
    "college_physics", "computer_security", "conceptual_physics", "econometrics", "electrical_engineering",
    "elementary_mathematics", "formal_logic", "global_facts", "high_school_biology", "high_school_chemistry",
    "high_school_computer_science", "high_school_european_history", "high_school_geography",
    "high_school_government_and_politics", "high_school_macroeconomics", "high_school_mathematics",
    "high_school_microeconomics", "high_school_physics", "high_school_psychology", "high_school_statistics",
    "high_school_us_history", "high_school_world_history", "human_aging", "human_sexuality",
    "international_law", "jurisprudence", "logical_fallacies", "machine_learning", "management", "marketing",
    "medical_genetics", "miscellaneous", "moral_disputes", "moral_scenarios", "nutrition", "philosophy",
    "prehistory", "professional_accounting", "professional_law", "professional_medicine",
    "professional_psychology", "public_relations", "security_studies", "sociology", "us_foreign_policy",
    "virology", "world_religions",
)  # fmt: skip


def document(row: Mapping[str, Any]) -> Document:
    """Renders a row with the columns question, subject, choices (four), answer (0..3).

    Raises:
        ValueError: the choices are not four, or the answer is none of them.
    """
    subject = row["subject"].replace("_", " ")
    instruction = f"The following are multiple choice questions (with answers) about {subject}."
    if len(row["choices"]) != len(LETTERS):
        raise ValueError(f"it has {counted(len(row['choices']), 'choice')}, not {len(LETTERS)}")
    options = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, row["choices"], strict=True))
    context = f"{row['question'].strip()}\n{options}Answer:"
    gold = marked(row["answer"], range(len(LETTERS)))
    shot = f"{context} {LETTERS[gold]}"
    return Document((context,), tuple(f" {x}" for x in LETTERS), (gold,), shot, instruction)
