"""What is known of model folders: families as data, checkpoint surgery, loading."""
