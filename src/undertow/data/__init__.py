"""Load and write training data."""

from undertow.data.load import ExampleTable, load_examples
from undertow.data.preferences import PreferenceData, load_preferences
from undertow.data.write import write_examples

__all__ = ["ExampleTable", "PreferenceData", "load_examples", "load_preferences", "write_examples"]
