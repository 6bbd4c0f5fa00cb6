# SPDX-License-Identifier: ZPL-2.1
"""Seeds make a call's id unguessable, and are drawn a few at a time by each process for itself."""

from __future__ import annotations

import os

from wsgi_zasync.call import SEED_BYTES
from wsgi_zasync.manager import seeds


def test_no_seed_comes_twice():
    drawn = [seeds.new_seed() for _ in range(1_000)]

    assert len(set(drawn)) == 1_000
    assert {len(seed) for seed in drawn} == {SEED_BYTES}


def test_a_forked_process_draws_its_own():
    """Also where the server forks behind Python's back, and no hook of a fork is called."""
    while not seeds._stock:
        seeds.new_seed()
    parents, reading, writing = list(seeds._stock), *os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(seeds.new_seed() for _ in parents))
        os._exit(0)
    os.waitpid(child, 0)
    drawn = os.read(reading, 4_096)
    os.close(reading)
    os.close(writing)

    assert len(drawn) == SEED_BYTES * len(parents)
    assert not any(seed in drawn for seed in parents)
