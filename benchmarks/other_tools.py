"""Many model calls by another tool, in its own way of asking an OpenAI-compatible endpoint.

    python -m benchmarks.other_tools TOOL URL CALLS AT_A_TIME

Prints one line of JSON: CPU and wall seconds of the calls, without the tool's start. Runs in whatever
environment has the tool, so it imports nothing of ours; exit status 3 where the tool is not installed.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable

PROMPT = "Describe what can be seen. " * 40


def ask_openai(url: str, calls: int, at_a_time: int) -> None:
    """The openai package: its async client, called by so many workers."""
    import asyncio

    import openai

    async def main() -> None:
        numbers = iter(range(calls))
        async with openai.AsyncOpenAI(base_url=url, api_key="key") as client:

            async def worker() -> None:
                for number in numbers:
                    message = {"role": "user", "content": f"{PROMPT}{number}"}
                    await client.chat.completions.create(model="tiny", messages=[message], max_tokens=1024)

            await asyncio.gather(*(worker() for _ in range(at_a_time)))

    asyncio.run(main())


def ask_distilabel(url: str, calls: int, at_a_time: int) -> None:
    """Distilabel: its OpenAI-compatible LLM, in batches, as its text generation step calls it."""
    from distilabel.models.llms import OpenAILLM

    llm = OpenAILLM(model="tiny", base_url=url, api_key="key", generation_kwargs={"max_new_tokens": 1024})
    llm.load()
    for start in range(0, calls, at_a_time):
        numbers = range(start, min(start + at_a_time, calls))
        llm.generate_outputs(inputs=[[{"role": "user", "content": f"{PROMPT}{n}"}] for n in numbers])


def ask_curator(url: str, calls: int, at_a_time: int) -> None:
    """Curator: its LLM over a list of prompts, which keeps requests and responses in files."""
    from bespokelabs import curator

    params = {
        "base_url": url,
        "api_key": "key",
        "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 10_000_000_000,
        "max_concurrent_requests": at_a_time,
    }
    llm = curator.LLM(
        model_name="openai/tiny",
        backend="litellm",  # Its openai backend fetches a tokenizer from the net.
        backend_params=params,
        generation_params={"max_tokens": 1024},
    )
    llm([f"{PROMPT}{calls} {number}" for number in range(calls)])


def ask_datatrove(url: str, calls: int, at_a_time: int) -> None:
    """Datatrove: its inference runner with an endpoint, which writes documents to a file."""
    from datatrove.data import Document
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    async def rollout(document, generate):  # type: ignore[no-untyped-def]
        message = {"role": "user", "content": document.text}
        return (await generate({"messages": [message], "max_tokens": 1024})).text

    config = InferenceConfig(
        server_type="endpoint",
        model_name_or_path="tiny",
        endpoint_url=url.removesuffix("/v1"),
        max_concurrent_generations=at_a_time,
        server_ready_delay_sec=0.1,
    )
    documents = [Document(text=f"{PROMPT}{number}", id=str(number)) for number in range(calls)]
    with tempfile.TemporaryDirectory() as folder:
        InferenceRunner(rollout, config, JsonlWriter(folder, compression=None)).run(iter(documents), 0, 1)


TOOLS: dict[str, Callable[[str, int, int], None]] = {
    "openai": ask_openai,
    "distilabel": ask_distilabel,
    "curator": ask_curator,
    "datatrove": ask_datatrove,
}


def cpu_seconds() -> float:
    """CPU of this process and of those it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    tool, url, calls, at_a_time = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    spent = []
    with tempfile.TemporaryDirectory() as home:
        quiet = {
            "CURATOR_CACHE_DIR": home,
            "TELEMETRY_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "OPENAI_API_KEY": "key",
        }
        os.environ.update(quiet, HF_HOME=home, CURATOR_DISABLE_RICH_DISPLAY="1")
        ask = TOOLS[tool]
        try:
            # Twice, of which the first has the start in it; what the second has besides its calls is in both.
            for number in (at_a_time, 2 * at_a_time, calls + 2 * at_a_time):
                cpu, wall = cpu_seconds(), time.monotonic()
                ask(url, number, at_a_time)
                spent.append((cpu_seconds() - cpu, time.monotonic() - wall))
        except ImportError as error:
            print(f"{tool}: {error}", file=sys.stderr)
            raise SystemExit(3) from None
    (_, few, many) = spent
    print(json.dumps({"cpu": many[0] - few[0], "wall": many[1] - few[1]}))


if __name__ == "__main__":
    main()
