from __future__ import annotations

import pytest
import torch

from undertow.models import cores
from undertow.models.cores import map_on_cores


def test_jobs_run_single_threaded_in_order_and_the_setting_comes_back() -> None:
    before = torch.get_num_threads()
    assert map_on_cores(lambda i: (i, torch.get_num_threads()), range(20)) == [(i, 1) for i in range(20)]
    assert torch.get_num_threads() == before


def test_an_error_is_raised_and_the_setting_comes_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        map_on_cores(lambda i: 1 // i, [1, 0])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("running", "spins"), [("1/64", 20_000), ("2/64", 1_000), ("7/64", 1_000), ("x", 1_000)]
)
def test_threads_spin_for_long_where_the_cores_are_idle_alone(
    monkeypatch: pytest.MonkeyPatch, running: str, spins: int
) -> None:
    monkeypatch.setattr(cores, "core_count", lambda: 2)
    monkeypatch.setattr(cores.Path, "read_text", lambda _self: f"0.50 0.40 0.30 {running} 4711\n")
    assert cores.spin_count() == spins
