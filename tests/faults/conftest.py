"""What the tests of faults share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support.lines")
