"""A sweep of budgets and loads over a running service: what `exitramp bench` does.

Closed loop for each budget's capacity; the generator against a server that does nothing, for its own
overhead; then Poisson arrivals at shares of the capacity. Loads rise, and within a load the budgets follow
one another, so that what disturbs the machine for a while disturbs all budgets.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from loadtest.errors import LoadTestError
from loadtest.generator import Run, Sender, closed_loop, open_loop, open_session
from loadtest.graphics_card import card_use
from loadtest.images import Picture
from loadtest.metrics_page import parse_page, read_page
from loadtest.null_server import null_server
from loadtest.report import Account, Report, make_overhead, make_row, mismatches
from loadtest.target import Probe, default_budgets, loaded_models, probe, request_headers

OPEN_CONNECTIONS = 1000
"""More than a service keeps waiting: in an open loop nobody shall wait for a connection."""

OVERHEAD_S = 2.0
"""Longest measurement of the generator itself, seconds."""

PATIENCE_S = 60.0
"""Longest wait for the service to come to rest after a measurement, seconds."""

FACTS = ("name", "version", "task", "policy", "device", "default_budget")
"""Of each model, for the report."""

LOOK_S = 0.1
"""Between two looks whether it has, seconds."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is being measured, seconds done, and of how many."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        budgets: Values of ``X-FLOP-Budget``, or ``none``; empty: chosen from the model's curve.
        loads: Shares of each budget's capacity, offered at random times; used where there are no ``rates``.
        rates: Requests a second.
        duration_s: Of each measurement, seconds.
        warm_up_s: Load that is not counted before the first measurement of each budget, seconds.
        pause_s: Rest before each measurement, seconds: load is forgotten, and brownout with it.
        connections: Users of the closed loop.
        model: A task or a model; empty: the service's default.
        seed: Of arrivals and the order of images.
    """

    budgets: tuple[str, ...] = ()
    loads: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.1)
    rates: tuple[float, ...] = ()
    duration_s: float = 10.0
    warm_up_s: float = 2.0
    pause_s: float = 3.0
    connections: int = 32
    model: str = ""
    seed: int = 0

    @property
    def overhead_s(self) -> float:
        """Of each measurement of the generator itself, seconds."""
        return min(OVERHEAD_S, self.duration_s)

    def seconds(self, budgets: int) -> float:
        """How long it will take with so many budgets."""
        steps = len(self.rates or self.loads)
        each = self.duration_s + self.pause_s
        return budgets * (self.warm_up_s + each + steps * each) + (1 + steps) * self.overhead_s


class Bench:
    """Measures; ``report`` holds what is known so far, also after an interruption."""

    def __init__(
        self,
        plan: Plan,
        report: Report,
        url: str,
        pictures: Sequence[Picture],
        api_key: str,
        show: OnProgress,
    ) -> None:
        """Measure the service at ``url``, which ``report`` names without its password.

        ``pictures`` are sent in an order drawn from the seed.
        """
        self._plan, self._report, self._url, self._show = plan, report, url, show
        self._pictures = random.Random(plan.seed).sample(pictures, len(pictures))
        self._key = {"X-API-Key": api_key} if api_key else {}
        self._budgets = plan.budgets
        self._done_s = 0.0
        self._card = False

    async def run(self) -> None:
        """All measurements.

        Raises:
            LoadTestError: The service cannot be reached, refuses, or went away.
        """
        started_s = time.monotonic()
        try:
            async with open_session(self._url, OPEN_CONNECTIONS, self._key) as session:
                answer = await self._meet(session)
                for budget in self._budgets:
                    await self._closed(session, budget)
                await self._measure_itself(answer)
                for step in range(len(self._plan.rates or self._plan.loads)):
                    for budget in self._budgets:
                        await self._open(session, budget, step)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise LoadTestError(f"{self._report.url} cannot be measured: {reason}") from error
        finally:
            self._report.seconds = time.monotonic() - started_s

    async def _meet(self, session: aiohttp.ClientSession) -> Probe:
        """Ask who is there, and once under each budget; gives the first answer."""
        model, content = self._plan.model, self._pictures[0].content
        await read_page(session)
        answer = await probe(session, content, request_headers(model, ""))
        name, models = json.loads(answer[0])["model"], await loaded_models(session)
        answering = next(entry for entry in models if entry["name"] == name)
        self._report.model = name
        self._report.models = [{fact: entry[fact] for fact in FACTS} for entry in models]
        self._budgets = self._budgets or default_budgets(answering)
        for budget in self._budgets:
            await probe(session, content, request_headers(model, budget))
        local = urlsplit(self._report.url).hostname in ("127.0.0.1", "localhost", "::1")
        self._card = local and "cuda" in answering["device"].lower()
        return answer

    async def _closed(self, session: aiohttp.ClientSession, budget: str) -> None:
        """The capacity of ``budget``, after a warm-up."""
        plan = self._plan
        self._say(f"{budget}: warm-up", 0)
        await closed_loop(self._sender(session, budget), plan.connections, plan.warm_up_s)
        self._say(f"{budget}: {plan.connections} connections", plan.warm_up_s)
        run, account = await self._watched(
            session, lambda: closed_loop(self._sender(session, budget), plan.connections, plan.duration_s)
        )
        row = make_row(budget, None, None, run, account)
        self._report.rows.append(row)
        self._report.capacity[budget] = row.throughput
        if not row.answered:
            raise LoadTestError(
                f"none of {row.sent} requests under budget {budget} was answered: {row.statuses}"
            )

    async def _open(self, session: aiohttp.ClientSession, budget: str, step: int) -> None:
        """Random arrivals at one rate; the same ones for every budget, but for their scale."""
        rate, chance = self._rate(budget, step), random.Random(self._plan.seed)
        self._say(f"{budget}: {rate:.0f} requests a second", 0)
        run, account = await self._watched(
            session, lambda: open_loop(self._sender(session, budget), rate, self._plan.duration_s, chance)
        )
        load = rate / self._report.capacity[budget]
        self._report.rows.append(make_row(budget, load, rate, run, account))

    async def _measure_itself(self, answer: Probe) -> None:
        """The generator against a server that does nothing: closed loop, then each step's highest rate."""
        plan, found = self._plan, self._report.overhead
        with null_server(*answer) as url:
            async with open_session(url, OPEN_CONNECTIONS) as session:
                self._say("the generator itself", 0)
                sender = self._sender(session, "")
                run = await closed_loop(sender, plan.connections, plan.overhead_s)
                found.append(make_overhead(None, run))
                for step in range(len(plan.rates or plan.loads)):
                    rate = max(self._rate(budget, step) for budget in self._budgets)
                    self._say(f"the generator itself: {rate:.0f} requests a second", plan.overhead_s)
                    run = await open_loop(sender, rate, plan.overhead_s, random.Random(plan.seed))
                    found.append(make_overhead(rate, run))
                self._say("", plan.overhead_s)

    async def _watched(
        self, session: aiohttp.ClientSession, measure: Callable[[], Awaitable[Run]]
    ) -> tuple[Run, Account]:
        """Measure once the service is at rest, between two looks at its metrics."""
        await self._rest(session)
        before, started_s = await read_page(session), time.perf_counter()
        with ExitStack() as watching:
            card = watching.enter_context(card_use(self._card))
            run, (page, at_end_s) = await asyncio.gather(measure(), self._look_at_end(session, watching))
        after, ended_s = await read_page(session), time.perf_counter()
        # What is counted after an answer has left may come a moment later than the answer.
        while mismatches(run, after.since(before)) and time.perf_counter() < ended_s + 10 * LOOK_S:
            await asyncio.sleep(LOOK_S)
            after = await read_page(session)
        self._say("", self._plan.duration_s + self._plan.pause_s)
        return run, Account(before, parse_page(page), after, at_end_s - started_s, card)

    async def _look_at_end(self, session: aiohttp.ClientSession, watching: ExitStack) -> tuple[str, float]:
        """The metrics page when the last request has been sent, and when it came.

        Answers are still to come, and their time is taken: what blocks, as reading the page would, waits.
        """
        await asyncio.sleep(self._plan.duration_s)
        async with session.get("metrics") as answer:
            page, now_s = await answer.text(), time.perf_counter()
        await asyncio.to_thread(watching.close)
        return page, now_s

    async def _rest(self, session: aiohttp.ClientSession) -> None:
        """Wait until nothing is under way, then pause."""
        patience_s = time.monotonic() + PATIENCE_S
        while (await read_page(session)).total("exitramp_in_flight"):
            if time.monotonic() > patience_s:
                raise LoadTestError(f"{self._report.url} has other requests under way for {PATIENCE_S:.0f} s")
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(self._plan.pause_s)

    def _sender(self, session: aiohttp.ClientSession, budget: str) -> Sender:
        return Sender(session, self._pictures, request_headers(self._plan.model, budget))

    def _rate(self, budget: str, step: int) -> float:
        plan = self._plan
        return plan.rates[step] if plan.rates else plan.loads[step] * self._report.capacity[budget]

    def _say(self, what: str, done_s: float) -> None:
        self._done_s += done_s
        self._show(what, round(self._done_s), round(self._plan.seconds(len(self._budgets))))
