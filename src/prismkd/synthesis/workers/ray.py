"""Ray's actors, one per device, on all nodes of a cluster; the run directory has to be on a shared file system."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prismkd.config.threads import how_to_wait
from prismkd.errors import UserError
from prismkd.signals import ENDING
from prismkd.synthesis.workers.inline import describe
from prismkd.synthesis.workers.pool import Event, Open, Worker


class _Actor:
    """What lives on a node: the work in a thread, so that the driver can ask at any time how it goes."""

    def __init__(self, open_worker: Open, device: str) -> None:
        self._open, self._device = open_worker, device
        self._unit: Any = None
        self._events = list[Event]()

    def begin(self, number: int) -> None:
        """Start a unit."""
        threading.Thread(target=self._work, args=(number,), daemon=True).start()

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def _work(self, number: int) -> None:
        try:
            self._unit = self._unit or self._open(self._device)
            self._unit(number, lambda count: self._events.append(Event("progress", count=count)))
            self._events.append(Event("done"))
        except UserError as error:
            self._events.append(Event("bad input", str(error)))
        except Exception as error:  # the pool decides whether it is tried again
            self._events.append(Event("failed", describe(error)))


class RayWorker:
    """An actor seen from the driver."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._answers = actor.events.remote()
        self._asked: Any = None

    def is_ready(self) -> bool:
        """Once a node has room for the actor, and it answers."""
        import ray

        return bool(ray.wait([self._answers], timeout=0)[0])

    def begin(self, unit: int) -> None:
        """Send the unit."""
        self._actor.begin.remote(unit)

    def events(self) -> list[Event]:
        """The answer to the last question, if there is one yet."""
        import ray

        if self._asked is None:
            self._asked = self._actor.events.remote()
        try:
            if not ray.wait([self._asked], timeout=0)[0]:
                return []
            answer, self._asked = ray.get(self._asked), None
        except ray.exceptions.RayError as error:
            return [Event("lost", f"its actor ended ({describe(error)})")]
        return answer

    def ask_to_end(self) -> None:
        """An actor is killed at once."""

    def stop(self) -> None:
        """Kill the actor."""
        import ray

        ray.kill(self._actor)


def ray_starters(open_worker: Open, num_workers: int, address: str = "") -> list[Callable[[], Worker]]:
    """Starters of actors: one per GPU of the cluster, else one per node; ``num_workers`` above 0 says how many.

    Raises:
        UserError: Ray isn't installed, or there is no cluster at ``address``.
    """
    # Nobody here asked for usage reports to be sent.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("expected ray for the executor ray, got none; pip install 'prismkd[ray]'") from None
    if not ray.is_initialized():
        try:
            with _signals_kept():
                ray.init(address or None, include_dashboard=False, log_to_driver=False, logging_level=40)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"expected a Ray cluster at {address or 'this machine'}, got: {reason}; check synthesis.ray_address"
            ) from None
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # Without GPUs one actor per node, as each uses all of a node's cores.
    count = num_workers or gpus or sum(node["Alive"] for node in ray.nodes())
    # The pool itself starts a lost actor again, so Ray must not: the pool would not know which unit was lost. Two calls
    # at a time: an actor answers how it goes while it begins a unit.
    options: dict[str, Any] = {"max_concurrency": 2, "max_restarts": 0, "scheduling_strategy": "SPREAD", "num_cpus": 1,
                               "runtime_env": {"env_vars": how_to_wait()}}  # fmt: skip
    remote: Any = ray.remote(**options, **({"num_gpus": 1} if gpus else {}))(_Actor)
    device = "cuda" if gpus else "cpu"  # Ray shows each actor its own GPU only
    return [lambda: RayWorker(remote.remote(open_worker, device)) for _ in range(count)]


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, and prints pages where it comes; afterwards it is the program's again."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
