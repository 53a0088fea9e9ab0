"""A plan executed: the store, child processes, locks, resuming, and sharing between machines."""
