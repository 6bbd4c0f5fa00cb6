# SPDX-License-Identifier: ZPL-2.1
"""What holds for every test: hypothesis draws the same examples in every run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline: on a loaded machine it would measure the neighbours. Nothing random: a failure
# that somebody sees once is one that everybody sees.
settings.register_profile(
    "repository",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repository")
