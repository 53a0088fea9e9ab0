"""The Hugging Face Hub: what the factory says to it, and a small one to rehearse with (`local`)."""
