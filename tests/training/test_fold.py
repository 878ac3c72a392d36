"""A folded pair is read as its two sides are."""

import pytest
import torch
from toy import thin_model

from undertow.training import fold
from undertow.training.needed import KNOWN

END = 2
PAIRS = [
    ([5, 6, 7], [8, 9, END], [10, END]),
    ([5, 6], [8, END], [8, 9, 9, 9, END]),  # the responses open alike
    ([4], [7, 7, 7, 7, 7, END], [7, END]),
    ([4, 5, 6, 7], [8, 9], [8, 9, 10]),  # cut at its end, one is the opening of the other
    ([4], [9, END], [9, END]),
]


def batch(pairs):
    rows = [p + c for p, c, _ in pairs] + [p + r for p, _, r in pairs]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, real


@pytest.mark.parametrize("kind", KNOWN)
def test_states_and_gradients_are_those_of_the_two_sides(kind):
    net = thin_model(kind)
    assert fold.can_fold(net)
    ids, real = batch(PAIRS)
    wanted = real[:, 1:].bool()
    whole = net.base_model(input_ids=ids, attention_mask=real, use_cache=False).last_hidden_state
    plain = whole[:, :-1][wanted]
    folded = fold.states_of(net.base_model, wanted, ids, real, use_cache=False)
    assert torch.allclose(folded, plain, atol=1e-5)
    gradients = []
    for states in (plain, folded):
        net.zero_grad()
        (states * torch.linspace(-1, 1, states.numel()).reshape(states.shape)).sum().backward()
        gradients.append([p.grad.clone() for p in net.base_model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*gradients, strict=True))
    assert any(g.abs().max() > 0.1 for g in gradients[0])


def test_a_row_holds_what_is_shared_once_and_the_sides_do_not_see_each_other():
    ids, real = batch(PAIRS[:2])
    found = fold.fold(ids, real)
    assert found.ids.tolist() == [[5, 6, 7, 8, 9, 2, 10, 2], [5, 6, 8, 2, 9, 9, 9, 2]]
    assert found.positions.tolist() == [[0, 1, 2, 3, 4, 5, 3, 4], [0, 1, 2, 3, 3, 4, 5, 6]]
    reads = found.sees[0, 0, 6].int().tolist()
    assert reads == [1, 1, 1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("change", [{"model_type": "other"}, {"layer_types": ["sliding_attention"]}])
def test_other_models_are_not_folded(change):
    net = thin_model("llama")
    for name, value in change.items():
        object.__setattr__(net.config, name, value)
    assert not fold.can_fold(net)
