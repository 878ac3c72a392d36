"""Statistics: pure functions with an explicit rng, None with a reason where a quantity is undefined."""
