"""`datagen COMMAND ...`: each command is a module with a `main`."""

import importlib
import os
import sys

COMMANDS = {
    "build": ("datagen.build", "make a dataset from videos, or go on with it"),
    "report": ("datagen.inspect.report", "write one page to look at a dataset with"),
    "validate": ("datagen.inspect.validate", "check a dataset, and whether it would train"),
    "stats": ("datagen.inspect.stats", "print the statistics of a dataset, or of two side by side"),
    "show": ("datagen.inspect.show", "print a dialogue as a timeline"),
    "verdicts": ("datagen.publish.read_verdicts", "read back what people say of its dialogues"),
    "push": ("datagen.publish.push", "publish a dataset on the Hugging Face Hub"),
    "benchmark": ("datagen.inspect.benchmark", "write its held-out dialogues as a benchmark"),
    "evaluate": ("datagen.inspect.evaluate", "score what a model said about a benchmark's videos"),
    "faults": ("datagen.inspect.faults", "test the checks of dialogues by injected faults"),
}


def main() -> int:
    """Run the command that the first argument names; returns the exit status."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        try:
            status: int = importlib.import_module(COMMANDS[name][0]).main(sys.argv[2:])
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read along, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return status
    lines = [f"  {command:<10}{what}" for command, (_, what) in COMMANDS.items()]
    more = "`datagen COMMAND --help` teaches the rest."
    text = "\n".join(["usage: datagen COMMAND ...", "", *lines, "", more])
    if name in ("-h", "--help"):
        print(text)
        return 0
    print(f"datagen: no command {name!r}\n{text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
