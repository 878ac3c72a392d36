from __future__ import annotations

import pytest
import torch

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
