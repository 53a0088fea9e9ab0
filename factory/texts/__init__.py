"""Texts that a model wrote, as tokens, and how models read them; under engines, drift and drafts.

    text.py        a prompt with its response, and files of them
    vocabulary.py  whether two models have one vocabulary, so that token ids can be compared
    reader.py      models read finished texts (teacher forcing)
    measures.py    what is found at each token of a response
    logits.py      a model's logits at chosen tokens alone

`factory/engines/writer.py` writes them.
"""
