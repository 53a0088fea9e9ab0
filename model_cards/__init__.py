"""The Jinja templates of the cards; installed as `factory.model_cards`."""
