"""The limiter against a simulated endpoint: time is the event loop's, answers take 10 ms."""

import asyncio
import random
import selectors

import pytest

from datagen.errors import Provider
from datagen.llm.limiter import Limiter


class Simulated(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time: its clock jumps to what comes next."""

    def __init__(self):
        self._now = 0.0
        selector = selectors.SelectSelector()
        super().__init__(selector)
        select = selector.select

        def jump(timeout=None):
            self._now += max(0.0, timeout or 0.0)
            return select(0)

        selector.select = jump

    def time(self):
        return self._now


def run(main):
    """Run to the end; the seconds of simulated time that it took."""
    loop = Simulated()
    try:
        loop.run_until_complete(main)
        return loop.time()
    finally:
        loop.close()


def simulate(limiter, calls, refuses, workers=400, seconds=0.01):
    """Limits over time, the share refused, calls a second; `refuses(in_flight)` may turn calls away."""
    seen, refusals, at_once, highest = [], 0, 0, 0

    async def worker(numbers):
        nonlocal refusals, at_once, highest
        for _ in numbers:
            while True:
                epoch = await limiter.acquire()
                seen.append(limiter.limit)
                highest = max(highest, limiter.limit)
                assert limiter.in_flight <= highest
                if refuses(at_once):
                    refusals += 1
                    limiter.release(epoch, refused=True)
                    if limiter.dark:
                        limiter.hold(seconds)
                    await asyncio.sleep(seconds)
                    continue
                at_once += 1
                await asyncio.sleep(seconds)
                at_once -= 1
                limiter.release(epoch, good=True)
                break

    async def main():
        numbers = iter(range(calls))
        await asyncio.gather(*(worker(numbers) for _ in range(workers)))
        assert limiter.in_flight == 0
        limiter.close()

    took = run(main())
    return seen, refusals / (calls + refusals), calls / took


def adaptive(most=512):
    return Limiter(None, most, 60.0)


@pytest.mark.parametrize("most", [10, 20, 64, 150])
def test_a_hard_limit_is_found_and_kept_to(most):
    seen, refused, _ = simulate(adaptive(), 2000 + 30 * most, lambda at_once: at_once >= most)
    late = seen[len(seen) // 2 :]
    assert 0.85 * most <= sum(late) / len(late) <= 1.12 * most + 1
    assert refused < 0.12


@pytest.mark.parametrize("calls", [1000, 2500, 10000])
def test_a_limit_of_64_costs_few_refusals_and_hardly_any_time(calls):
    _, refused, rate = simulate(adaptive(), calls, lambda at_once: at_once >= 64, seconds=0.1)
    assert refused <= 0.03
    assert rate >= 0.9 * 64 / 0.1


@pytest.mark.parametrize(("share", "least"), [(0.02, 250), (0.05, 250), (0.1, 150)])
def test_random_refusals_do_not_hold_it_down(share, least):
    chance = random.Random(1)
    seen, *_ = simulate(adaptive(), 9000, lambda _: chance.random() < share)
    late = seen[len(seen) // 2 :]
    assert sum(late) / len(late) > least


def test_256_calls_at_a_time_are_reached_soon():
    *_, rate = simulate(adaptive(), 10_000, lambda _: False, workers=256, seconds=0.1)
    assert rate >= 0.9 * 256 / 0.1


def test_an_endpoint_that_takes_everything_gets_everything_that_there_is():
    seen, refused, _ = simulate(adaptive(most=300), 8000, lambda _: False)
    assert seen[-1] == 300 and refused == 0


def test_it_grows_again_when_the_endpoint_does():
    limiter, count = adaptive(), iter(range(10**9))
    seen, *_ = simulate(limiter, 8000, lambda at_once: at_once >= (20 if next(count) < 2000 else 200))
    assert seen[1900] <= 25 and seen[-1] > 100


def test_an_outage_does_not_wear_the_limit_down():
    count = iter(range(10**9))
    limiter = adaptive()
    seen, *_ = simulate(limiter, 8000, lambda _: 3000 < next(count) < 6000)
    assert min(seen[3000:6500]) >= 0.25 * seen[3000] and seen[-1] >= 0.8 * seen[3000]


def test_a_limit_without_demand_stays_where_it_is():
    seen, *_ = simulate(adaptive(), 500, lambda _: False, workers=10)
    assert set(seen) == {64}


def test_a_fixed_limit_never_changes():
    seen, *_ = simulate(Limiter(8, 512, 60.0), 1000, lambda at_once: at_once >= 6, workers=50)
    assert set(seen) == {8}


def test_the_gate_holds_everybody_and_opens_for_all():
    async def main():
        limiter = Limiter(4, 512, 60.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        limiter.hold(0.1)
        limiter.hold(0.02)  # A shorter one does not open it.
        await asyncio.gather(*(limiter.acquire() for _ in range(4)))
        assert 0.09 < loop.time() - began < 0.5
        limiter.close()

    asyncio.run(main())


def test_who_was_there_before_goes_first():
    async def main():
        limiter, order = Limiter(1, 512, 60.0), []
        epoch = await limiter.acquire()

        async def wait(name, first):
            order.append((await limiter.acquire(first=first), name)[1])
            limiter.release(0)

        tasks = [asyncio.create_task(wait(*who)) for who in (("a", False), ("b", False), ("again", True))]
        await asyncio.sleep(0)
        limiter.release(epoch)
        await asyncio.gather(*tasks)
        assert order == ["again", "a", "b"]
        limiter.close()

    asyncio.run(main())


def test_nobody_waits_for_ever_while_nothing_succeeds():
    async def main():
        limiter = Limiter(1, 512, 0.1)
        await limiter.acquire()
        with pytest.raises(Provider, match="no call has succeeded"):
            async with asyncio.timeout(1):
                await limiter.acquire()
        limiter.close()

    asyncio.run(main())


def test_cancelled_waiting_costs_no_slot():
    async def main():
        limiter = Limiter(1, 512, 60.0)
        epoch = await limiter.acquire()
        tasks = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        limiter.release(epoch)  # Admits the first, which is cancelled before it can run.
        tasks[0].cancel()
        async with asyncio.timeout(1):
            await tasks[2]
        assert limiter.in_flight == 1
        limiter.close()

    asyncio.run(main())
