"""What a decoder weighs and what a token costs it, as arithmetic; no weights are read and no model is run.

anatomy.py fills a `Sizes` from a config alone; `factory sizes` and `factory measure` print it. Blocks are
kept one by one, so the model without some of them is a sum over the others: every kept block keeps its own
kind, whatever pattern of sliding windows or experts the config spells.

Conventions, the same for every figure:
- Parameters are numbers of elements; a head tied to the embeddings counts once.
- A multiply-accumulate is 2 FLOPs. Matrix multiplications are counted; norms, activations, rotations,
  softmax, biases and the recurrences of linear attention are not. Looking up an embedding is no FLOP.
- Every token is taken to run through the head. (Generation needs it for the last token of a prompt only.)
- A token attends to the tokens before it and to itself, and no further back than its block's window. What
  a kernel spends on the masked half of a prompt is not counted.
- Keys and values are computed once a token. (Stock latent attention, as in DeepSeek-V3, expands them from
  the cache at every step, which costs more.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from factory.errors import FactoryError

Counted = Literal["blocks", "head", "parameters"]

# Bytes of an element, by torch's name of its type.
ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}


@dataclass(frozen=True)
class Attention:
    """What attending costs in one block.

    Attributes:
        pair: multiply-accumulates for one query and one key: score and weighted value, over all heads.
        cached: elements kept for every token; 0 in a block that reads another block's cache.
        window: the most tokens kept and attended to; None for no bound. Attention in chunks (Llama 4) is
            taken for a window of a chunk's length, which is the most it reaches.
    """

    pair: int
    cached: int
    window: int | None = None

    def reach(self, context: int) -> int:
        """How many tokens the last of `context` tokens attends to, itself included."""
        return context if self.window is None else min(context, self.window)

    def pairs(self, tokens: int) -> int:
        """How many (query, key) pairs a prompt of `tokens` tokens has: the sum of `reach` over 1..tokens."""
        full = self.reach(tokens)
        return full * (full + 1) // 2 + (tokens - full) * full


@dataclass(frozen=True)
class Block:
    """One decoder block, in elements and in multiply-accumulates per token.

    Attributes:
        attention: parameters of what mixes tokens, without norms.
        mlp: parameters every token runs through: dense and shared experts, and the router.
        experts: parameters of the routed experts.
        norms: parameters of all norms, those on queries and keys included.
        other: parameters of anything else.
        idle: parameters of the routed experts that one token does not use.
        products: multiply-accumulates in weight matrices.
        attends: what attending costs; None where the block has no attention.
    """

    attention: int
    mlp: int
    experts: int
    norms: int
    other: int
    idle: int
    products: int
    attends: Attention | None

    @property
    def parameters(self) -> int:
        """All of them, idle ones included."""
        return self.attention + self.mlp + self.experts + self.norms + self.other


@dataclass(frozen=True)
class Sizes:
    """A decoder-only language model.

    Attributes:
        blocks: in order.
        embeddings: parameters of the tables looked up by token or position.
        head: parameters of the head's matrix, tied or not.
        tied: the head is the token embedding.
        norms: parameters of norms outside the blocks.
        other: parameters of anything else outside the blocks, and of what several blocks share.
        outer_products: multiply-accumulates per token outside blocks and head.
        buffers: elements that are stored with the weights and are no parameters.
        positions: the longest context that the config names, in tokens; None where it names none.
        unknown: why FLOPs and cache cannot be told for this family; None where they can.
    """

    blocks: tuple[Block, ...]
    embeddings: int
    head: int
    tied: bool
    norms: int
    other: int
    outer_products: int
    buffers: int
    positions: int | None = None
    unknown: str | None = None

    @property
    def parameters(self) -> int:
        """All parameters."""
        outer = self.embeddings + (0 if self.tied else self.head) + self.norms + self.other
        return outer + sum(block.parameters for block in self.blocks)

    @property
    def active(self) -> int:
        """Parameters one token uses: all but the routed experts it is not sent to.

        The whole embedding table counts, as in "12.9B active" for Mixtral 8x7B.
        """
        return self.parameters - sum(block.idle for block in self.blocks)

    def part(self, name: str) -> int:
        """Parameters of one part, over the model: `embeddings`, `head` (0 if tied) or a part of `Block`."""
        outer = {
            "embeddings": self.embeddings,
            "head": 0 if self.tied else self.head,
            "norms": self.norms,
            "other": self.other,
        }
        return outer.get(name, 0) + sum(getattr(block, name, 0) for block in self.blocks)

    def flops(self, context: int = 0, counted: Counted = "head") -> int:
        """FLOPs of the forward pass for one token.

        Args:
            context: tokens attended to, the token itself included; 0 leaves the part out that grows with
                the context (linear in it for a token, quadratic for a prompt).
            counted: the matrices of the `blocks` alone; these and the `head`'s; or 2 FLOPs for each of the
                active `parameters`, which takes a look-up for a product. By that last count the removed
                share is that of the parameters: the paper's 16.30 %, where `head` says 17.44 %.

        Raises:
            FactoryError: this family's attention is not understood.
        """
        self._known()
        attending = sum(b.attends.pair * b.attends.reach(context) for b in self.blocks if b.attends)
        if counted == "parameters":
            return 2 * (self.active + attending)
        products = sum(block.products for block in self.blocks) + self.outer_products
        return 2 * (products + attending + (self.head if counted == "head" else 0))

    def prefill_flops(self, tokens: int, counted: Counted = "head") -> int:
        """FLOPs of the forward pass for one prompt of `tokens` tokens: `flops` over contexts 1..tokens.

        Raises:
            FactoryError: this family's attention is not understood.
        """
        pairs = sum(
            block.attends.pair * block.attends.pairs(tokens) for block in self.blocks if block.attends
        )
        return tokens * self.flops(0, counted) + 2 * pairs

    def cache_bytes(self, context: int, dtype: str = "bfloat16") -> int:
        """Bytes of the keys and values kept for one sequence of `context` tokens.

        What query heads share counts once (stock Falcon keeps a copy for each of them). Latent attention
        keeps the latent and the rotated key (DeepSeek-V2, arXiv 2405.04434, section 2.1).
        Constant states of linear attention are not counted.

        Raises:
            FactoryError: this family's attention is not understood.
        """
        self._known()
        kept = sum(b.attends.cached * b.attends.reach(context) for b in self.blocks if b.attends)
        return kept * ELEMENT_BYTES[dtype]

    def checkpoint_bytes(self, dtype: str = "bfloat16") -> int:
        """Bytes of the stored tensors with every one of them in `dtype`; file headers come on top."""
        return (self.parameters + self.buffers) * ELEMENT_BYTES[dtype]

    def without(self, dropped: Collection[int]) -> Sizes:
        """The model without some blocks.

        Args:
            dropped: their 0-based numbers.

        Raises:
            FactoryError: there is no such block, or none would be left.
        """
        count = len(self.blocks)
        wrong = sorted(index for index in dropped if not 0 <= index < count)
        if wrong or len(set(dropped)) >= count:
            what = f"there is no block {wrong[0]}" if wrong else "no block would be left"
            raise FactoryError(what, mend=f"The model has blocks 0..{count - 1}; keep at least one")
        kept = tuple(block for index, block in enumerate(self.blocks) if index not in dropped)
        return replace(self, blocks=kept)

    def _known(self) -> None:
        if self.unknown is not None:
            raise FactoryError(self.unknown)
