"""A fitted direction elicits what pairs choose, leaves other pairs alone, and says how much."""

import sys
from pathlib import Path

import pytest
import torch

from undertow.models.direction import Pairs, fit_direction
from undertow.models.forced import ForcedReader
from undertow.training.steering import Steering

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from toy import save_toy_model

    return save_toy_model(tmp_path_factory.mktemp("toy") / "start")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr("undertow.models.direction.STEPS", 25)


def pairs(chosen, rejected, n=20):
    return Pairs([[{"role": "user", "content": "is this a lamp"}]] * n, [chosen] * n, [rejected] * n)


def log_odds(net, tokenizer, chosen, rejected):
    """By hand, a batch of one and no padding."""
    found = []
    for answer in (chosen, rejected):
        ids = tokenizer(f"<user>is this a lamp<bot>{answer}<end>", return_tensors="pt")["input_ids"]
        size = len(tokenizer(f"{answer}<end>")["input_ids"])
        with torch.no_grad():
            each = net(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])[-size:]
        found.append(float(each.sum()))
    return found[0] - found[1]


@pytest.mark.parametrize("layer", [0, 1])
def test_it_raises_the_log_odds_by_what_it_says_where_training_adds_it(layer, model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shows, others = ("yes never", "yes indeed"), ("no", "yes")
    fitted = fit_direction(ForcedReader(str(model)), pairs(*shows), pairs(*others), layer, alpha=2.0)
    net, tokenizer = AutoModelForCausalLM.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    plain = [log_odds(net, tokenizer, *kind) for kind in (shows, others)]
    with Steering(torch.tensor(2 * fitted.direction), layer, "both").on(net):
        gained = [
            log_odds(net, tokenizer, *kind) - was for kind, was in zip((shows, others), plain, strict=True)
        ]
    assert fitted.shown == pytest.approx(gained[0], abs=1e-4)
    assert fitted.others == pytest.approx(abs(gained[1]), abs=1e-4)
    assert gained[0] > 0.5
    assert abs(gained[1]) < gained[0] / 3


def test_one_pair_is_enough_and_what_no_pair_measures_is_missing(model):
    fitted = fit_direction(ForcedReader(str(model)), pairs("no", "yes", 1), pairs("no", "yes", 0), 0)
    assert (fitted.direction**2).sum() > 0
    assert (fitted.shown, fitted.others) == (None, None)
    assert fit_direction(ForcedReader(str(model)), pairs("no", "yes"), pairs("no", "yes", 0), 0).shown > 0.2
