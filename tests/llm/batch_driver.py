"""Asks by batches and keeps each reply in a file before anything else, as a build does.

`python -m tests.llm.batch_driver URL STATE KEPT COUNT`
"""

import asyncio
import json
import sys
from pathlib import Path

from datagen.llm.batch import open_batch_client
from tests.llm.batch_server import KEY
from tests.llm.test_batch import QUICK, ask_for


async def main() -> None:
    url, state, kept, count = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    known = {json.loads(line)[0] for line in kept.read_text().splitlines()} if kept.exists() else set()
    client = open_batch_client(url, KEY, state, state, QUICK)

    async def one(question: str) -> None:
        reply = await client.ask(ask_for(question))
        with kept.open("a") as file:
            file.write(json.dumps([question, reply.text]) + "\n")

    questions = [f"question {i}" for i in range(count)]
    await asyncio.gather(*(one(question) for question in questions if question not in known))
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
