"""Worker processes over the devices: who runs what, what must wait, and what happens when one ends."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ..interrupt import Interrupted
from .attempt import Ended, record_failure, second_accumulation
from .backlog import Backlog
from .causes import KILLED, MEMORY
from .devices import cores, environment
from .jobs import Done, Job
from .process import Event, Worker
from .screen import Screen
from .shared import artefacts
from .states import began

TICK_SECONDS = 0.3
PROCESSOR = ""
"""the device of a machine without GPUs"""


@dataclass
class Attempt:
    """A job in a worker."""

    job: Job
    accumulation: int | None = None
    second: bool = False
    started: float = field(default_factory=time.monotonic)
    making: tuple[str, ...] = ()
    """artefacts that others wait for until it trains"""


class Pool:
    """Runs the jobs of a backlog on ``devices``, ``per_device`` at a time on each."""

    def __init__(self, backlog: Backlog, devices: Sequence[str], per_device: int, screen: Screen) -> None:
        self.backlog, self.screen, self.per_device = backlog, screen, per_device
        self.devices = list(devices) or [PROCESSOR]
        self.load: Counter[str] = Counter()
        self.busy: dict[Worker, Attempt] = {}
        self.idle: list[Worker] = []
        self.again: dict[Job, int | None] = {}
        """jobs that get a second attempt -> its trainer.accumulation, None as before"""
        self.made: set[str] = set()
        """artefacts that are in the cache"""
        self.needed: dict[Job, tuple[str, ...]] = {}
        self.events: queue.Queue[Event] = queue.Queue()
        self.threads = max(1, cores() // self.places)
        """of each worker, however few jobs are left: results of a processor depend on it in the last bits"""
        self.signals = self.heeded = 0

    def run(self, jobs: Iterable[Job]) -> list[Done]:
        """Until nothing is left to do. Interrupted if a signal ended it."""
        self.reject(self.backlog.add(jobs))
        handlers = self._listen()
        try:
            while True:
                self.heed()
                if not self.signals:
                    self.assign()
                if not self.busy and (self.signals or not self.backlog.waiting):
                    break
                self.hear()
                self.screen.refresh()
        finally:
            self.end_workers()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.signals:
            raise Interrupted("stopped")
        return self.backlog.done

    @property
    def places(self) -> int:
        return len(self.devices) * self.per_device

    def assign(self) -> None:
        """Start what can start, strictly in order but for what waits for another run's artefacts."""
        self.notice_artefacts()
        self.reject(self.backlog.refill(self.places))
        for job in list(self.backlog.waiting):
            needed = job.config.scale.devices if self.devices != [PROCESSOR] else 1
            if needed > len(self.devices):
                self.backlog.waiting.remove(job)
                self.fail(job, f"scale.devices={needed} needs {needed} GPUs, but there are {len(self.devices)}")
                continue
            devices = self.free(needed)
            if devices is None:
                break  # devices become free for the next in order; nothing overtakes it
            if self.must_wait(job):
                continue
            self.backlog.waiting.remove(job)
            self.screen.planned(self.backlog.waiting)
            self.start(job, devices)
        self.screen.planned(self.backlog.waiting)

    def free(self, needed: int) -> tuple[str, ...] | None:
        """The least loaded device with a free place, or as many wholly free devices as needed."""
        if needed == 1:
            device = min(self.devices, key=lambda name: self.load[name])
            return (device,) if self.load[device] < self.per_device else None
        empty = [device for device in self.devices if not self.load[device]]
        return tuple(empty[:needed]) if len(empty) >= needed else None

    def start(self, job: Job, devices: tuple[str, ...]) -> None:
        for worker in [w for w in self.idle if w.devices != devices and set(w.devices) & set(devices)]:
            self.idle.remove(worker)
            worker.close()
        found = next((worker for worker in self.idle if worker.devices == devices), None)
        if found is not None:
            self.idle.remove(found)
        visible = tuple(device for device in devices if device != PROCESSOR)
        worker = found or Worker(devices, environment(visible, self.threads), self.events)
        # a whole device's share of the load for a run that spans several
        self.load.update(dict.fromkeys(devices, 1 if len(devices) == 1 else self.per_device))
        attempt = Attempt(job, self.again.get(job), job in self.again)
        attempt.making = tuple(name for name in self.needs(job) if name not in self.made)
        self.busy[worker] = attempt
        reason = "in smaller micro-batches" if attempt.accumulation else "second attempt" if attempt.second else ""
        self.screen.started(job, reason)
        worker.start(job, attempt.accumulation)

    def must_wait(self, job: Job) -> bool:
        """Whether a run that is not yet training makes something that this one needs."""
        making = {name for attempt in self.busy.values() for name in attempt.making}
        return bool(making) and not making.isdisjoint(self.needs(job))

    def needs(self, job: Job) -> tuple[str, ...]:
        if job not in self.needed:
            self.needed[job] = artefacts(job.config)
        return self.needed[job]

    def notice_artefacts(self) -> None:
        for attempt in self.busy.values():
            if attempt.making and began(attempt.job.directory):
                self.made |= set(attempt.making)
                attempt.making = ()

    def hear(self) -> None:
        """Wait a moment for a worker to say something."""
        try:
            event = self.events.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return
        worker, message = event.worker, event.message
        if message is None:
            self.gone(worker)
        elif "state" in message:
            self.ended(worker, Ended(**message))
        elif worker in self.busy:  # it has started up
            self.busy[worker].started = time.monotonic()

    def gone(self, worker: Worker) -> None:
        """A worker's process has ended, with a job or without."""
        why = worker.end()
        if worker in self.idle:
            self.idle.remove(worker)
        elif worker in self.busy:
            self.conclude(worker, Ended("failed", why, KILLED))

    def ended(self, worker: Worker, ended: Ended) -> None:
        """A worker has finished an attempt and waits."""
        if worker not in self.busy:
            return
        if ended.state == "interrupted" and not self.signals:  # told to stop by somebody else
            ended = Ended("interrupted", ended.error, KILLED)
        self.conclude(worker, ended)
        if ended.poisoned or ended.cause == MEMORY or self.signals:
            worker.close()
        else:
            self.idle.append(worker)

    def conclude(self, worker: Worker, ended: Ended) -> None:
        """An attempt is over: another one, or the end of its job."""
        attempt = self.busy.pop(worker)
        job, devices = attempt.job, worker.devices
        self.load.subtract(dict.fromkeys(devices, 1 if len(devices) == 1 else self.per_device))
        if ended.state == "finished":
            self.made |= set(attempt.making)
        seconds = time.monotonic() - attempt.started
        done = Done(job, ended.state, ended.error, attempt.second, seconds)
        if self.signals:
            self.interrupted(done, killed=ended.cause == KILLED)
        elif ended.cause and not attempt.second:
            self.again[job] = second_accumulation(job.config, ended.cause)
            self.backlog.put_back(job)
            self.screen.ended(done, final=False)
            self.screen.say(f"{job.name} will be tried again: {ended.error}")
        elif ended.cause == KILLED and ended.state == "failed":
            self.screen.ended(done)
            self.fail(job, ended.error or "", attempt, seconds)
        else:
            self.backlog.over(done)
            self.screen.ended(done)

    def fail(self, job: Job, error: str, attempt: Attempt | None = None, seconds: float = 0.0) -> None:
        """Record what the worker itself could not."""
        smaller = {"accumulation": attempt.accumulation} if attempt and attempt.accumulation else {}
        record_failure(job, error, **smaller)
        self.backlog.over(Done(job, "failed", error, bool(attempt and attempt.second), seconds))

    def interrupted(self, done: Done, *, killed: bool) -> None:
        """The queue was told to stop while this ran."""
        if done.state == "failed" and killed:
            done = Done(done.job, "interrupted", "killed", done.retried, done.seconds)
            if done.job.directory.status() is not None:
                done.job.directory.write_status("interrupted", error="killed")
        self.backlog.over(done)
        self.screen.ended(done)

    def reject(self, failed: list[Done]) -> None:
        """Show jobs that failed before they could start."""
        for done in failed:
            self.screen.ended(done)

    def heed(self) -> None:
        """Act on signals: the first lets the running ones save and stop, any other kills them."""
        while self.heeded < self.signals:
            self.heeded += 1
            if self.heeded == 1:
                self.screen.say(f"stopping: {len(self.busy)} running cells save first; again to kill them")
            for worker in list(self.busy):
                worker.interrupt() if self.heeded == 1 else worker.kill()

    def end_workers(self) -> None:
        """Leave no process behind, whatever happened."""
        for worker in self.busy:
            worker.kill()
        for worker in self.idle:
            worker.close()

    def _listen(self) -> dict[int, Any]:
        """Count signals from now on; returns the handlers that did so far."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1
