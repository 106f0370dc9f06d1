"""A wrong sum is seen, wherever it is wrong."""

import numpy as np
import pattern
import pytest

_LONG = 3 * 997 * 1024 + 5


@pytest.mark.parametrize("size", [1, 1000, _LONG])
def test_a_sum_is_seen_and_an_error_too(size):
    total = np.zeros(size, np.float32)
    for rank in range(4):
        part = np.empty(size, np.float32)
        pattern.fill(part, rank)
        assert not pattern.is_sum(part, 4)
        total += part
    assert pattern.is_sum(total, 4)
    for place in {0, size // 2, size - 1}:
        wrong = total.copy()
        wrong[place] += 1
        assert not pattern.is_sum(wrong, 4)
