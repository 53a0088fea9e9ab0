"""A recipe as steps with keys, with all it takes from outside, and what the steps will cost."""
