"""What a user may write: a recipe read, checked, varied, and its schema."""
