"""What nobody reads is not computed, and what is read stays the same."""

import pytest
import torch
from toy import thin_model

from undertow.models.layers import layers_of
from undertow.training.head import response_states
from undertow.training.needed import KNOWN, only_needed

IDS = torch.tensor([[5, 6, 7, 8, 9, 2], [4, 7, 2, 0, 0, 0], [3, 5, 6, 7, 2, 0]])
REAL = (IDS != 0).long()
WANTED = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0]]).bool()


def tokens_computed(net, inside):
    seen = []
    hooks = [
        layer.mlp.register_forward_hook(lambda _m, given, _o: seen.append(given[0].shape[:-1].numel()))
        for layer in layers_of(net.base_model)
    ]
    with inside:
        net.base_model(input_ids=IDS, attention_mask=REAL)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", KNOWN)
def test_states_and_gradients_are_those_of_the_whole(kind):
    net = thin_model(kind, layers=3)
    whole = net.base_model(input_ids=IDS, attention_mask=REAL).last_hidden_state[:, :-1][WANTED]
    found = response_states(net.base_model, WANTED, IDS, REAL)
    assert torch.allclose(found, whole, atol=1e-5)
    gradients = []
    for states in (whole, found):
        net.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).reshape(states.shape)).sum().backward()
        gradients.append([p.grad.clone() for p in net.base_model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*gradients, strict=True))
    assert any(g.abs().max() > 0.1 for g in gradients[0])


@pytest.mark.parametrize("kind", KNOWN)
def test_feed_forward_layers_take_real_tokens_and_the_last_one_what_is_read(kind):
    net = thin_model(kind, layers=3)
    read = torch.nn.functional.pad(WANTED, (0, 1))
    computed = tokens_computed(net, only_needed(net.base_model, REAL.bool(), read))
    assert computed == [int(REAL.sum())] * 2 + [int(WANTED.sum())]
    after = net.base_model(input_ids=IDS, attention_mask=REAL).last_hidden_state
    assert after[0, 0].abs().max() > 0, "afterwards all of it is computed again"


def test_recomputing_for_the_gradient_computes_everything():
    net = thin_model("gpt2", layers=3, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    plain = response_states(net.base_model, WANTED, IDS, REAL, use_cache=False).detach()
    net.gradient_checkpointing_enable()
    net.train()
    found = response_states(net.base_model, WANTED, IDS, REAL, use_cache=False)
    found.sum().backward()
    assert torch.allclose(found, plain, atol=1e-5)


def test_models_of_other_classes_compute_everything():
    net = thin_model("gpt2", layers=3)
    read = torch.nn.functional.pad(WANTED, (0, 1))
    object.__setattr__(net.base_model.config, "model_type", "other")
    assert tokens_computed(net, only_needed(net.base_model, REAL.bool(), read)) == [IDS.numel()] * 3
