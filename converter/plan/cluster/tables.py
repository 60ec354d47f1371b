"""A cluster's plan for people, for the plan file, and as command lines of llama.cpp."""

from pathlib import Path
from shlex import join
from typing import Any

from converter.plan.cluster.load import OUTPUT_PART
from converter.plan.cluster.machines import Machine
from converter.plan.cluster.placement import Share, hops
from converter.plan.cluster.plan_cluster import ClusterPlan


def cluster_lines(cluster: ClusterPlan) -> list[str]:
    """A line for each machine, sizes in MB."""
    width = max(len(machine.address) for machine in cluster.machines)
    head = f"{'weights':>9} {'cache':>8} {'buffers':>8} {'memory':>9} {'of':>9} {'disk':>9} {'of':>9}"
    lines = [f"{'machine':<{width}}  {'parts':<17} {head}"]
    for machine, entry in zip(cluster.machines, _entries(cluster), strict=True):
        sizes = [entry[what] for what in ("weights", "cache", "buffers", "memory")]
        room = machine.room
        numbers = [*sizes, room.memory, entry["disk"], room.disk]
        widths = (9, 8, 8, 9, 9, 9, 9)
        cells = (f"{'-' if n is None else f'{n / 1e6:,.1f}':>{w}}" for n, w in zip(numbers, widths, strict=True))
        lines.append(f"{machine.address:<{width}}  {entry['parts']:<17} {' '.join(cells)}")
    passes = hops([share.machine for share in cluster.fitted.shares])
    lines.append(f"{cluster.fitted.how}; a token passes {passes} times from machine to machine")
    return lines


def as_json(cluster: ClusterPlan) -> dict[str, Any]:
    """For the plan file; sizes in bytes."""
    return {
        "context": cluster.context,
        "how": cluster.fitted.how,
        "levels": list(cluster.fitted.levels),
        "hops": hops([share.machine for share in cluster.fitted.shares]),
        "machines": _entries(cluster),
    }


def _entries(cluster: ClusterPlan) -> list[dict[str, Any]]:
    """What every machine gets. The first also has the file and the embeddings."""
    shares = {share.machine: share for share in cluster.fitted.shares}
    entries = []
    for number, machine in enumerate(cluster.machines):
        share = shares.get(number, Share(number, 0, 0))
        mine = cluster.load.parts[share.start : share.stop]
        weights = sum(part.weights for part in mine) + (0 if number else cluster.load.embeddings)
        # what the output needs for computing is not a cache
        cache = sum(part.working for part in mine if part.name != OUTPUT_PART)
        buffers = (cluster.load.buffers + sum(part.working for part in mine) - cache) if mine else 0
        buffers += 0 if number else cluster.load.passing
        disk = None if machine.room.disk is None else weights if number else cluster.load.file
        entries.append(
            {
                "address": machine.address,
                "parts": _named(cluster, share),
                "weights": weights,
                "cache": cache,
                "buffers": buffers,
                "memory": weights + cache + buffers,
                "disk": disk,
            }
        )
    return entries


def _named(cluster: ClusterPlan, share: Share) -> str:
    names = [part.name for part in cluster.load.parts[share.start : share.stop]]
    here = [] if share.machine else ["embeddings"]
    if not names:
        return here[0] if here else "nothing"
    output = names.pop() if share.stop == len(cluster.load.parts) else None
    if names:
        here.append(names[0] if len(names) == 1 else f"{names[0]}-{names[-1].removeprefix('blk.')}")
    return ", ".join([*here, *([output] if output else [])])


def cluster_commands(cluster: ClusterPlan, model_path: Path, plan: Path | None) -> list[str]:
    """What to run, and where: the conversion, rpc-server on each machine with a share, then the program."""
    file = f"{model_path.stem}-cluster.gguf"
    first = cluster.machines[0]
    convert = ["eoq", "convert", str(model_path), file, "--plan", str(plan or "PLAN.json")]
    run = ["llama-cli", "-m", file, "-c", str(cluster.context)]
    shares = cluster.fitted.shares
    lines = [f"on {first.address}, once:", f"  {join(convert)}"]
    if [share.machine for share in shares] == [0]:
        return [*lines, f"on {first.address}:", f"  {join(run)}"]
    for share in shares:
        machine = cluster.machines[share.machine]
        lines += [f"on {machine.address}:", f"  {join(_server(machine, share.machine == 0))}"]
    parts = len(cluster.load.parts)
    run += ["-ngl", str(parts)]
    # the first machine's own rpc-server listens on the loopback interface
    run += ["--rpc", ",".join(_endpoint(cluster.machines[s.machine], s.machine == 0) for s in shares)]
    run += ["--device", ",".join(f"RPC{i}" for i in range(len(shares)))]
    run += ["--tensor-split", ",".join(str(s.stop - s.start) for s in shares)]
    return [*lines, f"then on {first.address}:", f"  {join(run)}"]


def _endpoint(machine: Machine, is_first: bool) -> str:
    return f"127.0.0.1:{machine.port}" if is_first and not machine.is_numeric else machine.address


def _server(machine: Machine, is_first: bool) -> list[str]:
    """rpc-server binds to IPv4 addresses alone; it keeps copies of weights where the plan counts on the disk."""
    host = machine.host if machine.is_numeric else "127.0.0.1" if is_first else "0.0.0.0"
    keep = ["-c"] if machine.room.disk is not None and not is_first else []
    return ["rpc-server", "-H", host, "-p", str(machine.port), *keep]
