"""Where the layers of a causal language model are, whatever its class calls them."""

from __future__ import annotations

from typing import Any

from undertow.errors import UsageError


def layers_of(model: Any) -> Any:
    """Return the module list of a causal language model's layers; their outputs are what is read and steered.

    Raises:
        UsageError: it has none that can be found.
    """
    from torch.nn import ModuleList

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, ModuleList) and len(module) == count:
            return module
    raise UsageError(f"{type(model).__name__}: its layers were not found; it cannot be steered")
