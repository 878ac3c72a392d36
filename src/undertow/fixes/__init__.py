"""Changed copies of the training data that take a cause away; the input is never touched."""
