"""The commands of the command line, by topic, and what they print; `cli.py` joins them."""
