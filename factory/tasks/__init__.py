"""The benchmarks: one a file, each opening with an example; `suites.py` groups them."""
