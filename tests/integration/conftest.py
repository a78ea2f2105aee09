"""What the tests of our own ends against each other share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support.contract", "support.lines")
