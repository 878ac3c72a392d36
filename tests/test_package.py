import ast
import inspect
from importlib import metadata

import pytest

import undertow


def test_the_version_is_that_of_the_installed_package():
    assert undertow.__version__ == metadata.version("undertow")


@pytest.mark.parametrize("name", sorted(undertow.__all__))
def test_every_public_name_loads_and_is_documented(name):
    value = getattr(undertow, name)
    assert value is getattr(undertow, name)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert value.__module__ == undertow._PUBLIC[name]


def test_type_checkers_see_the_names_that_load():
    tree = ast.parse(inspect.getsource(undertow))
    typed = {
        (alias.asname, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module.startswith("undertow.")
        and node.module != "undertow.version"
        for alias in node.names
    }
    assert typed == set(undertow._PUBLIC.items())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        undertow.nonsense  # noqa: B018 - the look-up is the test
    assert "run_surf" in dir(undertow)
