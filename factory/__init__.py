"""A factory for smaller language models: recipe in; models, datasets, cards and scores out."""

__version__ = "0.1.0"
