"""The connection to a Ray cluster that is running."""

import os
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
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""What a client of HTTP/2 begins with (RFC 9113, section 3.4), its settings left empty."""
_FRAME_HEAD, _FRAME_TYPE, _SETTINGS = 9, 3, b"\4"
"""Length of a frame's head, place of the type in it, and the type that a server begins with (sections 4.1 and 6.5)."""
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
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address  # as Ray does
    check_form(address)
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address != "auto":
        _check_answers(address)
    _init(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _init(ray: Any, address: str) -> None:
    """Join the cluster as its driver, which handles signals as before: Ray puts handlers of its own in their place."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        if address == "auto" and isinstance(error, ConnectionError):
            raise ClusterError(
                "this machine belongs to no running Ray cluster; start one with: ray start --head, or join one"
            ) from None
        reason = " ".join(str(error).split())
        raise ClusterError(f"the Ray cluster {address} cannot be used ({reason}); {_FORM}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def check_form(address: str) -> None:
    """Raises ClusterError for what is no address."""
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16):
        raise ClusterError(f"{address!r} is no address of a Ray cluster; {_FORM}")


def _check_answers(address: str) -> None:
    """Raises ClusterError unless a server of HTTP/2, on which Ray's protocol is built, answers in seconds."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
            connection.sendall(_PREFACE)
            answer = connection.recv(_FRAME_HEAD)
    except OSError as error:
        raise ClusterError(f"no Ray cluster answers at {address} ({error.strerror or error}); {_FORM}") from None
    if answer[_FRAME_TYPE : _FRAME_TYPE + 1] != _SETTINGS and not os.environ.get("RAY_USE_TLS"):
        raise ClusterError(f"what answers at {address} is no Ray cluster; {_FORM}")


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
