"""The contract's assertions are told in full too, though its module is no test file."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.contract.runtime")
