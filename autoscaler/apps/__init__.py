"""What people and scripts look at: the live page and its machine-readable twins."""
