"""Stands in for `vllm run-batch`: reads requests as strictly as it does, writes replies in its form.

`python -m tests.llm.fake_run_batch run-batch -i X -o Y --model M`
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.llm.batch_server import body_for, read_strictly


def main(argv: list[str] | None = None, body: Callable[[dict[str, Any]], dict[str, Any]] = body_for) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run-batch"])
    parser.add_argument("-i", required=True)
    parser.add_argument("-o", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--allowed-local-media-path")
    args = parser.parse_args(argv)
    with Path(args.o).open("w") as out:
        for request in read_strictly(Path(args.i).read_bytes()):
            assert request["body"]["model"] == args.model
            said = json.dumps(request["body"]["messages"])
            if "file://" in said:
                assert args.allowed_local_media_path and f"file://{args.allowed_local_media_path}/" in said
            response = {"status_code": 200, "request_id": "vllm-batch-1", "body": body(request)}
            error = None
            if "far too long" in said:
                response = {"status_code": 400, "request_id": "vllm-batch-1", "body": None}
                error = {"error": {"message": "prompt is too long", "type": "BadRequestError", "code": 400}}
            line = {"id": "vllm-1", "custom_id": request["custom_id"], "response": response, "error": error}
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
