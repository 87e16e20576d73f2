# SPDX-License-Identifier: Apache-2.0
"""Orders to the mapping thread: done when it comes to them, refused when it has ended."""

from threading import Condition

import pytest

pytest.importorskip("rclpy")

from depth_two_stage.config import MapParameters, MappingNodeParameters, TsdfParameters
from depth_two_stage.map_keeping import MapKeeper
from depth_two_stage.meshing import MapWorker, WorkerError
from depth_two_stage.ros.map_orders import MapOrders
from depth_two_stage.slam import Slam
from depth_two_stage.tsdf import MapError


@pytest.fixture
def made():
    """Orders for an empty map, and the list of its changes; no worker is started."""
    slam = Slam(MappingNodeParameters(tsdf=TsdfParameters(device="cpu", memory_mb=16.0)))
    keeper = MapKeeper(slam, MapWorker(slam.map), print)
    changes = []
    parameters = MapParameters(load="/nowhere/map.npz")
    return MapOrders(keeper, lambda: parameters, Condition(), lambda: changes.append(1)), changes


def test_orders_are_done_in_turn_by_who_calls_work(made):
    orders, changes = made
    assert not orders and not orders.work()
    clear, load = orders.request_clear(), orders.request_load()
    assert orders and not clear.done()
    assert orders.work() and not orders
    assert clear.result(0) is None and changes == [1]
    with pytest.raises(MapError, match="nowhere"):
        load.result(0)


def test_nobody_waits_for_a_thread_that_has_ended(made):
    orders, changes = made
    waiting = orders.request_clear()
    orders.close()
    for order in (waiting, orders.request_save(), orders.request_load()):
        with pytest.raises(WorkerError, match="it is being stopped"):
            order.result(0)
    assert not orders and changes == []


def test_an_error_that_nobody_foresaw_is_told_and_ends_the_thread(made, monkeypatch):
    orders, changes = made
    monkeypatch.setattr(orders._keeper, "load", lambda *_: 1 // 0)
    first, bad, last = orders.request_clear(), orders.request_load(), orders.request_clear()
    with pytest.raises(ZeroDivisionError):
        orders.work()
    assert first.result(0) is None and changes == [1]
    for order in (bad, last):
        with pytest.raises(WorkerError, match="ended by ZeroDivisionError"):
            order.result(0)
