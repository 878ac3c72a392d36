"""Load and write training data."""

from undertow.data.load import ExampleTable, load_examples
from undertow.data.write import write_examples

__all__ = ["ExampleTable", "load_examples", "write_examples"]
