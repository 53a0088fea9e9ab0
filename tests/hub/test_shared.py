"""A private repository as the place where machines share work."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_hub import Served

CODE = """
from concurrent.futures import ThreadPoolExecutor
from factory.errors import FactoryError
from factory.run.share import place_of
home.mkdir(exist_ok=True)
place = place_of("hf://datasets/acme/store")
"""
EXCHANGE = f"""{CODE}
told["before"] = sorted(place.names())
for name in ("one", "two"):
    (home / name).write_bytes(name.encode() * 100)
place.put({{"train/a.partial.tar": home / "one"}}, [])
place.put({{"train/a.tar": home / "two"}}, ["train/a.partial.tar", "train/never.tar"])
told["names"] = sorted(place.names())
place.fetch("train/a.tar", home / "back")
told["back"] = (home / "back").read_bytes() == b"two" * 100
"""
MANY = f"""{CODE}
def send(number):
    path = home / f"file-{{number}}"
    path.write_text(str(number) * 1000)
    place.put({{f"evaluate/{{number}}.tar": path}}, [])
with ThreadPoolExecutor(6) as pool:
    list(pool.map(send, range(6)))
told["names"] = sorted(place.names())
"""
REFUSED = f"""{CODE}
try:
    (home / "one").write_bytes(b"1")
    place.names() if told.setdefault("look", {{look}}) else place.put({{{{"a/b.tar": home / "one"}}}}, [])
except FactoryError as error:
    told["said"] = str(error)
"""


def test_what_one_puts_there_another_fetches(hub: Served, tmp_path: Path) -> None:
    told = hub.client(EXCHANGE, tmp_path / "home")
    assert (told["before"], told["names"], told["back"]) == ([], ["train/a.tar"], True)
    assert hub.store.load("datasets", "acme/store").private


def test_machines_may_put_at_the_same_time(hub: Served, tmp_path: Path) -> None:
    hub.create("acme/store", "dataset", private=True)
    told = hub.client(MANY, tmp_path / "home")
    assert told["names"] == [f"evaluate/{number}.tar" for number in range(6)]


@pytest.mark.parametrize(
    ("who", "private", "look", "words"),
    [("ann", False, True, "this repository is public"), ("reader", True, False, "the Hub answers 403")],
)
def test_what_is_not_for_sharing_is_refused(
    hub: Served, tmp_path: Path, who: str, private: bool, look: bool, words: str
) -> None:
    hub.create("acme/store", "dataset", private=private)
    told = hub.client(REFUSED.format(look=look), tmp_path / "home", who)
    assert words in told["said"]
