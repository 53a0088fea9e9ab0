"""Open LLM Leaderboard v1 as a lighteval task module: all six tasks, MMLU's 57 subjects one by one.

    The following are multiple choice questions (with answers) about abstract algebra.

    Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.
    A. 0
    ...

With lighteval 0.13, which needs help to start with today's client (lighteval_upstream.py):

    python -m factory.tasks.lighteval_upstream accelerate \\
        "model_name=my-org/my-model,override_chat_template=False,batch_size=8" \\
        "$(python -m factory.tasks.openllm_v1)" --custom-tasks factory.tasks.openllm_v1

The shots belong to the definition: `python -m factory.tasks.openllm_v1` prints the tasks with theirs.

Rows come from the Hub at the commits that suites.py pins; for others, make a table with `revisions=` of
your own (lighteval_tasks.py). A working directory with folders named like the ids (`allenai/ai2_arc/`), as
any `datasets` folder, is read instead of the Hub. `datasets` keeps a copy of what it read under HF_HOME
and may return another folder's rows of the same name from there: set HF_DATASETS_CACHE to a fresh folder
for each such directory.

Known open difference: v1's harness gave causal models no token for the beginning of a text (its
AutoCausalLM tokenized without special tokens); today's harness and this project add the one that a tokenizer
adds by itself. So scores of models whose tokenizer begins with such a mark may differ a little from v1's.
That was read in a pre-0.4 copy of lm_eval/models/huggingface.py, not at the very commit.
"""

from __future__ import annotations

from factory.tasks.lighteval_tasks import names, table
from factory.tasks.suites import SUITES

TASKS_TABLE = table("openllm_v1", SUITES["openllm_v1"].values())

if __name__ == "__main__":
    print(names("openllm_v1", SUITES["openllm_v1"].values()))
