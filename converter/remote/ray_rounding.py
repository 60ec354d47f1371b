"""Tensors that the nodes of a Ray cluster round, several at a time."""

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from converter.errors import ClusterError, OptionError
from converter.options import ConversionOptions
from converter.plan import TensorPlan
from converter.remote.ray_cluster import check_room, connected
from converter.remote.shared_files import SharedFile
from converter.remote.worker import Job, Rounded, round_tensor, versions
from converter.report import ConversionProgress
from converter.rounded_tensors import RoundedHere, RoundedTensor, TensorMaker
from converter.rounding_method import RoundingMethod
from eoq_formats.errors import EoqError

MOST_BYTES = 1 << 30
"""Of tensors that are being rounded, or wait to be written; one is always under way, however large."""
RETRIES = 5
"""How often a tensor is begun again whose worker is lost."""
_WAIT = 1.0
"""Seconds of one wait, and at most until a conversion that breaks off ends."""


@contextmanager
def rounding_on(
    options: ConversionOptions, progress: ConversionProgress
) -> Iterator[Callable[[RoundingMethod], TensorMaker]]:
    """Where tensors will be rounded by these options: here, or on a cluster, which is connected to before long work.

    Gives a function of the method that is found meanwhile. Raises ClusterError, OptionError.
    """
    if options.ray is None:
        yield lambda method: RoundedHere(method.rounder, progress)
        return
    needs = _needs(options)
    with connected(options.ray) as ray, ExitStack() as makers:
        check_room(ray, needs)

        def on_ray(method: RoundingMethod) -> RoundedOnRay:
            maker = RoundedOnRay(ray, method, options.threads, needs, progress)
            makers.callback(maker.close)
            return maker

        yield on_ray


def _needs(options: ConversionOptions) -> dict[str, float]:
    """What one task takes of a node, by Ray's names. Raises OptionError."""
    kind, colon, _ = options.rounding.device.partition(":")
    if kind == "cpu" or not options.rounding.is_calibrated:
        return {"CPU": options.threads}
    if kind != "cuda" or colon:
        raise OptionError(
            f"--ray gives each worker a GPU of its own, so the device is cpu or cuda, not {options.rounding.device}"
        )
    return {"CPU": options.threads, "GPU": 1}


class RoundedOnRay:
    """Rounds the largest tensors first, each on one worker; copies are made here."""

    def __init__(
        self, ray: Any, method: RoundingMethod, threads: int, needs: dict[str, float], progress: ConversionProgress
    ) -> None:
        recipe, source = method.recipe, method.rounder.source
        self._ray = ray
        self._here = RoundedHere(method.rounder, progress)
        self._progress = progress
        self._work_of = method.rounder.work
        self._running: dict[Any, TensorPlan] = {}
        self._thread = ThreadPoolExecutor(1)
        """Waits for Ray: a signal's exception breaks its calls, and comes to the main thread alone."""
        self._task = ray.remote(
            num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), max_retries=RETRIES, scheduling_strategy="SPREAD"
        )(round_tensor)
        self._job = ray.put(
            Job(
                secrets.token_hex(8),
                tuple(map(SharedFile.of, source.paths)),
                None if recipe.statistics is None else SharedFile.of(recipe.statistics),
                recipe,
                threads,
                versions(),
            )
        )

    def make(self, plans: Sequence[TensorPlan]) -> Iterator[RoundedTensor]:
        """Each of these once, as they are finished. Raises EoqError."""
        largest_first = sorted((p for p in plans if not p.is_copy), key=lambda p: p.tensor.weights, reverse=True)
        waiting = deque(largest_first)
        self._begin(waiting)
        yield from self._here.make([p for p in plans if p.is_copy])
        while self._running:
            finished, _ = self._thread.submit(self._ray.wait, list(self._running), timeout=_WAIT).result()
            for task in finished:
                yield self._arrived(task, self._running[task])
                del self._running[task]  # only now is it written
            self._begin(waiting)

    def close(self) -> None:
        """End what is still being rounded. While the cluster is connected: Ray would start one of its own later."""
        for task in self._running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
        self._running.clear()
        self._thread.shutdown()

    def _begin(self, waiting: deque[TensorPlan]) -> None:
        """As many tasks as there is room for their results."""
        taken = sum(plan.nbytes for plan in self._running.values())
        while waiting and (not self._running or taken + waiting[0].nbytes <= MOST_BYTES):
            plan = waiting.popleft()
            taken += plan.nbytes
            self._running[self._task.options(name=f"eoq {plan.tensor.name}").remote(self._job, plan)] = plan

    def _arrived(self, task: Any, plan: TensorPlan) -> RoundedTensor:
        try:
            found = self._thread.submit(self._ray.get, task).result()
        except self._ray.exceptions.RayError as error:
            *_, reason = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ClusterError(
                f"the Ray cluster could not round {plan.tensor.name} ({reason}); see that every node has EOQ installed "
                "and memory enough, or convert without --ray"
            ) from error
        if isinstance(found, EoqError):
            raise found
        assert isinstance(found, Rounded)
        self._progress.advance(self._work_of(plan))
        return RoundedTensor(plan, [found.data], lambda: found.record)
