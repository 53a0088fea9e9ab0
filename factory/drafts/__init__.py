"""Speculative decoding with a pruned model as the draft: acceptance, speed-up, assisted generation."""

ALL = "all"
"""What the prompts of all sets together are called; no set has this name."""

TRIED = (1, 2, 4, 8)
"""Proposed tokens a step with which texts are decoded, besides the number that forward passes make best."""
