"""TaskManager: its options, its overrides, and how a run is put together from them."""
