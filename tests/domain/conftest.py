# SPDX-License-Identifier: Apache-2.0
"""Fleets that domain tests begin with."""

from __future__ import annotations

import pytest

from support.fleet_world import World, make_token

FLAG = make_token(0x2012)


@pytest.fixture
def world() -> World:
    """Eight enrolled nodes, nothing released."""
    return World()


@pytest.fixture
def old_world() -> World:
    """Eight nodes that run the old release."""
    world = World()
    world.release(1, "old")
    world.roll_out("old", seconds=2)
    return world


@pytest.fixture
def armed_world(old_world: World) -> World:
    """Eight nodes that run the new release with its flag armed; the old release is fenced."""
    release = old_world.release(2, "new", tokens=(FLAG,), arms=(FLAG,))
    old_world.roll_out("new")
    assert old_world.state.releases[release].armed == (FLAG,)
    return old_world
