"""The built-in world of planted shortcuts with ground truth, and the small model trained in it."""
