"""The connection to a Ray cluster that is running."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from converter.errors import ClusterError

_PATIENCE = 5.0
"""Seconds for the head of the cluster to answer; Ray by itself tries for minutes."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FORM = "give HOST:PORT of the cluster's head, or auto on a machine that belongs to it"


def import_ray() -> Any:
    """The package. Raises ClusterError where there is none."""
    try:
        import ray
    except ImportError:
        raise ClusterError("--ray needs the package ray; install it with: pip install ray") from None
    return ray


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The package `ray`, connected to a cluster, which is never started here. Raises ClusterError.

    A program that is connected already, which has called ray.init, stays so.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address != "auto":
        _check_address(address)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"the Ray cluster {address} cannot be used ({reason}); {_FORM}") from None
    try:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray puts its own in their place
                signal.signal(number, handler)
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ClusterError(f"{address!r} is no address of a Ray cluster; {_FORM}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error.strerror or error}); {_FORM}") from None


def check_room(ray: Any, needs: dict[str, float]) -> None:
    """Raises ClusterError where no node has the CPUs and GPUs, by Ray's names, that one task needs: it would wait
    for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= number for name, number in needs.items()) for node in nodes):
        wanted = " and ".join(f"{number:g} {name}" for name, number in needs.items())
        most = max((node.get("CPU", 0) for node in nodes), default=0)
        raise ClusterError(
            f"no node of the Ray cluster has {wanted} for rounding a tensor; the largest has {most:g} CPU: "
            "give --threads that many or fewer"
        )
