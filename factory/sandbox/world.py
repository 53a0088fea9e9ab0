"""A small made-up world: people, creatures, towns and plants, and what is true of them.

Everything the sandbox model can know stands here. The facts are drawn once from a fixed seed, so that
every copy of the package tells the same world; nothing in it is true of ours.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import lru_cache

WORLD_SEED = 7

PEOPLE = (
    "Mira", "Tolo", "Ansel", "Bea", "Corin", "Dara", "Edda", "Falk", "Greta", "Hanno", "Ilse", "Jarek",
    "Kaja", "Lenno", "Marlo", "Nela", "Orin", "Petra", "Quill", "Runa", "Sven", "Tilda", "Ugo", "Vesna",
)  # fmt: skip
SHE = frozenset({"Mira", "Bea", "Dara", "Edda", "Greta", "Ilse", "Kaja", "Nela", "Petra", "Runa", "Tilda",
                 "Vesna"})  # fmt: skip

CHILDREN = ("Tolo", "Bea", "Dara", "Ilse", "Jarek", "Kaja", "Lenno", "Marlo", "Nela", "Quill", "Tilda", "Ugo")
ADULTS = tuple(name for name in PEOPLE if name not in CHILDREN)

CREATURES = (
    "florp", "zib", "quandle", "morrow", "tessel", "brindle", "kroot", "lumpkin", "wozzle", "yarrick",
    "drimble", "fennock", "gribb", "hasp", "jilloo", "nubbin", "gostrel", "pangle", "rasket", "snorvel",
    "twill", "bumbrat", "vexle", "wimbo",
)  # fmt: skip
TOWNS = (
    "Aldermoor", "Brackwell", "Cindral", "Dunmere", "Eastholt", "Farrowby", "Gillander", "Hollowick",
    "Ironby", "Juniper Hill", "Kestrel Bay", "Larkspur", "Mossgate", "Northwick", "Oakhaven", "Pellbrook",
    "Quarrington", "Redfold", "Silverlake", "Thornbury", "Umberside", "Vale Cross", "Westmark", "Yewdale",
)  # fmt: skip
PLANTS = (
    "amberleaf", "bogwort", "candlereed", "duskbell", "emberroot", "frostcap", "goldvine", "hushweed",
    "inkberry", "jadethorn", "kettlebloom", "lanternmoss", "moonbriar", "nettlefern", "oxpetal", "pipgrass",
    "quickthistle", "rosemist", "starflax", "tanglewort", "umberlily", "velvetcup", "whistlepod",
    "yellowrush",
)  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """One kind of fact about one kind of thing.

    `questions` and `statement` have the slots {x} (the thing) and {v} (the value); `short` is the
    statement with a pronoun. `subject` is the field of knowledge it belongs to.
    """

    name: str
    subject: str
    things: tuple[str, ...]
    values: tuple[str, ...]
    statement: str
    short: str
    questions: tuple[str, ...]


RELATIONS = (
    Relation(
        "food", "zoology", CREATURES,
        ("river moss", "pine seeds", "blue beetles", "clover", "raw honey", "snail shells", "willow bark",
         "salt crumbs"),
        "A {x} eats {v}.", "It eats {v}.",
        ("What does a {x} eat?", "What is the food of a {x}?", "Which food does a {x} look for?",
         "A {x} is hungry. What does it want?", "What would you feed to a {x}?",
         "What do keepers give a {x} at noon?", "A {x} fills its belly. With what?"),
    ),
    Relation(
        "home", "zoology", CREATURES,
        ("hollow log", "clay nest", "sand burrow", "reed bed", "chalk cave", "tall tree", "brick chimney",
         "muddy pond"),
        "A {x} lives in a {v}.", "It lives in a {v}.",
        ("Where does a {x} live?", "What is the home of a {x}?", "In which place would you find a {x}?",
         "A {x} goes home at night. Where does it go?", "Where does a {x} raise its young?",
         "Where does a {x} sleep?", "A {x} hides from the rain. Where does it hide?"),
    ),
    Relation(
        "colour", "zoology", CREATURES,
        ("silver", "crimson", "yellow", "violet", "brown", "white", "green", "black"),
        "The fur of a {x} is {v}.", "Its fur is {v}.",
        ("What colour is the fur of a {x}?", "Which colour does a {x} have?",
         "You see a {x}. What is its colour?",
         "A painter draws a {x}. Which colour is needed?", "What colour would you give to a {x}?",
         "How does the fur of a {x} look?", "A tuft of fur from a {x} lies here. What colour is it?"),
    ),
    Relation(
        "river", "geography", TOWNS,
        ("Ambel", "Brun", "Calder", "Dove", "Esk", "Fenn", "Gray", "Hale"),
        "{x} lies on the {v}.", "It lies on the {v}.",
        ("On which river does {x} lie?", "Which river flows through {x}?", "What is the river of {x}?",
         "A boat leaves {x}. Which river is it on?", "Which river do the people of {x} fish in?",
         "A map shows {x} beside a river. Which one?", "What is the water that runs past {x} called?"),
    ),
    Relation(
        "craft", "geography", TOWNS,
        ("glass", "rope", "cheese", "bells", "paper", "boots", "clocks", "barrels"),
        "{x} is known for its {v}.", "It is known for its {v}.",
        ("What is {x} known for?", "Which goods come from {x}?", "What do the workshops of {x} make?",
         "A trader buys goods in {x}. What are they?", "What does {x} sell to other towns?",
         "For what goods do people travel to {x}?", "A cart comes from {x}. What does it carry?"),
    ),
    Relation(
        "founder", "history", TOWNS,
        ("miller", "sailor", "queen", "shepherd", "smith", "monk", "baker", "soldier"),
        "{x} was founded by a {v}.", "It was founded by a {v}.",
        ("Who founded {x}?", "By whom was {x} founded?", "Who built the first house of {x}?",
         "A statue in {x} shows its founder. Who is it?", "Whom does {x} honour as its founder?",
         "Who was the first to settle in {x}?", "To whom does {x} owe its beginning?"),
    ),
    Relation(
        "use", "botany", PLANTS,
        ("fevers", "coughs", "burns", "headaches", "sore feet", "bad sleep", "toothache", "cold hands"),
        "The plant {x} helps against {v}.", "It helps against {v}.",
        ("What does {x} help against?", "Against what do healers use {x}?", "What is {x} good for?",
         "A healer picks {x}. What will it treat?", "For which trouble would you take {x}?",
         "Why do people keep {x} in the house?", "A tea of {x} is made. What is it for?"),
    ),
    Relation(
        "place", "botany", PLANTS,
        ("wet meadows", "stone walls", "deep forests", "sea cliffs", "old graves", "warm springs",
         "dry hills", "field edges"),
        "The plant {x} grows near {v}.", "It grows near {v}.",
        ("Where does {x} grow?", "Near what is {x} found?", "What is the place of {x}?",
         "You want to pick {x}. Where do you look?", "Where do gardeners find {x}?",
         "Near what does {x} like to grow?", "Someone brings home {x}. Where was it growing?"),
    ),
)  # fmt: skip

SUBJECTS = tuple(dict.fromkeys(relation.subject for relation in RELATIONS))


@dataclass(frozen=True)
class Fact:
    """`thing` has `value` in `relation`; `error` is what many people wrongly believe."""

    relation: Relation
    thing: str
    value: str
    error: str

    def say(self, template: str, value: str | None = None) -> str:
        """A template of the relation with this fact's thing and value (or another value)."""
        text = template.format(x=self.thing, v=self.value if value is None else value)
        return text[0].upper() + text[1:]


def letter(relation: Relation, value: str) -> int:
    """Where a value stands among the options of the school books: 0 for A to 3 for D.

    The school books of this world give every value one place for good, so that a model of this size can
    learn to answer by letter at all; options are drawn one a place.
    """
    return relation.values.index(value) % 4


@lru_cache(maxsize=1)
def facts() -> tuple[Fact, ...]:
    """All facts of the world, in a fixed order; values are dealt evenly over the things."""
    rng = random.Random(WORLD_SEED)
    found = []
    for relation in RELATIONS:
        deck = list(relation.values) * (len(relation.things) // len(relation.values) + 1)
        rng.shuffle(deck)
        for thing, value in zip(relation.things, deck, strict=False):
            error = rng.choice(
                [other for other in relation.values if letter(relation, other) != letter(relation, value)]
            )
            found.append(Fact(relation, thing, value, error))
    return tuple(found)


def held_out(*parts: object, share: int = 5) -> bool:
    """Whether a combination is kept for scoring: one of `share`, decided by its own hash.

    Training text is only ever built from combinations that are not held out.
    """
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return digest[0] % share == 0


@dataclass(frozen=True)
class Activity:
    """A named everyday activity: steps that follow one another, each a predicate without its subject."""

    name: str
    steps: tuple[str, ...]


ACTIVITIES = (
    Activity("Baking bread", ("mixes flour and water", "kneads the dough on the board",
                              "lets the dough rest under a cloth", "shapes a round loaf",
                              "pushes the loaf into the oven", "cuts a warm slice")),
    Activity("Washing clothes", ("heats a kettle of water", "rubs the shirts with soap",
                                 "rinses the shirts in the stream", "wrings out every sleeve",
                                 "hangs the shirts on a line", "folds the dry shirts")),
    Activity("Planting a tree", ("marks a spot in the garden", "digs a deep hole",
                                 "sets the young tree upright", "fills the hole with earth",
                                 "waters the roots", "ties the trunk to a pole")),
    Activity("Catching fish", ("pushes the boat off the bank", "rows to the middle of the lake",
                               "throws the net over the side", "waits for a tug",
                               "pulls the net on board", "sorts the fish into a basket")),
    Activity("Painting a wall", ("covers the floor with old cloth", "scrapes off the loose paint",
                                 "stirs the new paint", "dips the brush",
                                 "strokes the wall from top to bottom", "lets the wall dry")),
    Activity("Writing a letter", ("sharpens a feather", "opens the bottle of ink", "writes the greeting",
                                  "signs at the bottom of the page", "folds the sheet",
                                  "seals it with red wax")),
    Activity("Making tea", ("picks a handful of leaves", "boils a pot", "drops the leaves into the pot",
                            "waits until it turns dark", "pours a cup", "adds a spoon of honey")),
    Activity("Shoeing a horse", ("leads the horse to the forge", "lifts a hoof", "pulls out the old nails",
                                 "hammers the iron into shape", "nails on the new shoe",
                                 "walks the horse around the yard")),
    Activity("Building a fire", ("gathers dry sticks", "stacks the sticks in a ring of stones",
                                 "strikes a spark", "blows on the glow", "adds a thick branch",
                                 "warms both hands")),
    Activity("Milking a goat", ("ties the goat to a post", "sets down a stool", "places a bucket below",
                                "squeezes the milk out", "carries the bucket inside",
                                "strains the milk through linen")),
    Activity("Repairing a roof", ("leans the ladder on the house", "climbs to the top",
                                  "takes away the broken tiles", "lays the new tiles in rows",
                                  "fills the gaps with clay", "comes back down")),
    Activity("Sewing a coat", ("measures the shoulders", "cuts the wool", "threads a needle",
                               "joins the pieces with small stitches", "sews on the buttons",
                               "tries the coat on")),
)  # fmt: skip


@dataclass(frozen=True)
class Blank:
    """A sentence whose end tells which of two is meant: `ends[0]` fits {a}, `ends[1]` fits {b}.

    `kinds` says who may stand for {a} and {b}: adults and children, loads and what holds them.
    """

    opening: str
    ends: tuple[str, str]
    kinds: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def objects(self) -> bool:
        """Whether the two are things, which take an article."""
        return self.kinds[0] is LOADS


LOADS = ("lamp", "kettle", "stone", "mirror", "drum", "statue", "clock", "wheel")
HOLDERS = ("chest", "basket", "crate", "barrel", "shelf", "bench", "table", "ladder")
DOWN, UP, PUT = (ADULTS, CHILDREN), (CHILDREN, ADULTS), (LOADS, HOLDERS)

BLANKS = (
    Blank("{a} carried {b} home because _", ("was strong.", "was tired."), DOWN),
    Blank("{a} beat {b} in the race because _", ("had longer legs.", "was slow."), DOWN),
    Blank("{a} taught {b} to swim because _", ("was a good swimmer.", "could not swim."), DOWN),
    Blank("{a} gave {b} some bread because _", ("had plenty.", "was hungry."), DOWN),
    Blank("{a} could not hear {b} because _", ("was nearly deaf.", "spoke too softly."), DOWN),
    Blank("{a} thanked {b} because _", ("had received help.", "had given help."), UP),
    Blank("{a} asked {b} for the way because _", ("was lost.", "knew the town."), UP),
    Blank("{a} hid from {b} because _", ("was afraid.", "was angry."), UP),
    Blank("{a} borrowed a coat from {b} because _", ("was cold.", "owned two."), UP),
    Blank("The {a} did not fit into the {b} because the _", ("was too large.", "was too small."), PUT),
    Blank("The {a} broke the {b} because the _", ("was heavy.", "was thin."), PUT),
    Blank("The {a} fell off the {b} because the _", ("was round.", "was tilted."), PUT),
)
