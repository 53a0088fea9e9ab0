"""Single stages on a folder, without a recipe and without a store."""
