"""What the tests of pretraining share: a small cohort, and a process that is left as it was found."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cohorts import make_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "c", patients=24, side=64)


@pytest.fixture(autouse=True)
def keep_signals_and_threads() -> Iterator[None]:
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
