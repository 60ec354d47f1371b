"""The machines of a cluster, as people name them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from converter.errors import OptionError
from converter.plan.cluster.placement import MAX_MACHINES, Room
from converter.sizes import parse_size

PORT = 50052
"""llama.cpp's rpc-server listens here by default."""
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:(?P<port>\d{1,5}))?")
_NUMBERS = re.compile(r"\d+(\.\d+){3}")
_FORM = "write a machine like 192.168.1.20=16GiB,disk=40GiB or name:50053=8GiB"


@dataclass(frozen=True)
class Machine:
    """A machine that runs llama.cpp's rpc-server, and what it has for the model."""

    host: str
    """Name or IPv4 address."""
    port: int
    room: Room

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_numeric(self) -> bool:
        """Whether the host is an IPv4 address, which is all that rpc-server can bind to."""
        return _NUMBERS.fullmatch(self.host) is not None


def parse_machine(text: str) -> Machine:
    """`HOST[:PORT]=MEMORY[,disk=SIZE]`. Raises OptionError."""
    name, equals, sizes = text.partition("=")
    match = _ADDRESS.fullmatch(name.strip())
    port = int(match["port"] or PORT) if match else 0
    if match is None or not equals or not 0 < port < 1 << 16:
        raise OptionError(f"machine {text!r} is not understood; {_FORM}")
    memory, *rest = (size.strip() for size in sizes.split(","))
    disks = [size.partition("=") for size in rest]
    if len(disks) > 1 or any(key.strip() != "disk" for key, _, _ in disks):
        raise OptionError(f"machine {text!r} is not understood; {_FORM}")
    disk = parse_size(disks[0][2]) if disks else None
    return Machine(match["host"], port, Room(parse_size(memory), disk))


def parse_machines(texts: Sequence[str]) -> tuple[Machine, ...]:
    """The first is the one that the program runs on. Raises OptionError."""
    machines = tuple(map(parse_machine, texts))
    addresses = [machine.address for machine in machines]
    if twice := next((a for a in addresses if addresses.count(a) > 1), None):
        raise OptionError(f"two machines have the address {twice}; give one of them another port")
    if len(machines) > MAX_MACHINES:
        raise OptionError(f"a cluster of {len(machines)} machines is too large; name at most {MAX_MACHINES}")
    return machines
