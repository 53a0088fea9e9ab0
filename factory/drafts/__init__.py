"""Speculative decoding with a pruned model as the draft: acceptance, speed-up, assisted generation."""

ALL = "all"
"""What the prompts of all sets together are called; no set has this name."""
