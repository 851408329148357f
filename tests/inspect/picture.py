"""Makes the picture of the report in the README: `python -m tests.inspect.picture docs/report.png`."""

import asyncio
import sys
import tempfile
from pathlib import Path

from datagen import build
from datagen.inspect.report import write_report
from tests.inspect.chromium import chromium

SHOWN = "pizza.mp4"


async def take(report: Path, picture: Path, folder: Path) -> None:
    """A dialogue of the sample videos, with its second answer opened."""
    async with chromium(folder / "profile") as tab:
        await tab.size(1200, 900)
        await tab.open(report.absolute().as_uri())
        id = await tab.value(f"index.rows.find((row) => row.name.endsWith('{SHOWN}')).id")
        await tab.turn(f"#{id.replace('#', '%23')}")
        await tab.value("document.querySelectorAll('.bubble.say')[1].click()")
        await tab.picture(picture)


def main() -> int:
    """Build the sample dataset, write its report, take the picture."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "out"
        status = build.main(["--out", str(out), "--quiet", "--backend", "local"])
        if status == 0:
            asyncio.run(take(write_report(out), Path(sys.argv[1]), Path(folder)))
    return status


if __name__ == "__main__":
    sys.exit(main())
