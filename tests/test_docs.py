"""What README and docs tell people to type is typed, and does what is said."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from datagen.config import Config
from datagen.samples import make_samples
from tests.model_server import KEY
from tests.priced_server import PricedServer
from tests.publish.hub_server import serving

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_HERE = ("pip install", "vllm serve", "ray start", "swift ", "python -m verl", "jupyter")
"""Commands that take in packages, or start servers that the tests have no machine for."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Every command of a page, continued lines joined, without comments and what cannot be run here."""
    joined = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part and not part.startswith((*NOT_HERE, "#", "export "))]


NEEDS_MORE = ("FOLDER_OF_VLM", "jsonl:REQUESTS", "--ray-address")
"""Commands that need weights, a GPU's replies or a cluster; tests of their own run their like."""


def test_every_value_of_a_pipeline_is_explained():
    told = (ROOT / "docs" / "pipeline_file.md").read_text()
    values = msgspec.to_builtins(Config(name=""))
    names = {name for section in values.values() if isinstance(section, dict) for name in section} | {*values}
    assert {name for name in names - {"name"} if not re.search(rf"`{name}\b", told)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with all that the pages speak of: videos with a licence, takes, mine.yaml, verdicts."""
    samples = make_samples(tmp_path / "samples")
    rows = [
        {"path": f"samples/{path.name}", "licence": "cc-by-4.0"} for path in sorted(samples.glob("*.mp4"))
    ]
    (tmp_path / "verdicts-somebody.jsonl").touch()
    (tmp_path / "MANIFEST.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    take = tmp_path / "takes" / "cooking_1" / "frame_aligned_videos" / "aria01_214-1.mp4"
    take.parent.mkdir(parents=True)
    shutil.copy(samples / "pizza.mp4", take)
    told = [
        {"timestamp": time, "text": f"C picks up the {what}.", "ego_visible": True, "unsure": False}
        for time, what in ((4.0, "red cup"), (15.0, "long knife"), (27.0, "wooden board"), (40.0, "pan"))
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "atomic_descriptions_train.json").write_text(
        json.dumps({"annotations": {"uid-1": [{"rejected": False, "descriptions": told}]}})
    )
    (tmp_path / "annotations" / "takes.json").write_text(
        json.dumps([{"take_uid": "uid-1", "take_name": "cooking_1", "root_dir": "takes/cooking_1"}])
    )
    (tmp_path / "mine.yaml").write_text("".join(blocks(ROOT / "docs" / "cookbook.md", "yaml")))
    return tmp_path


def typed(command: str, place: Path, environment: dict[str, str]) -> str:
    """What a command prints. It must end well."""
    ran = subprocess.run(
        ["bash", "-ec", command], cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=lambda page: page.name)
def test_commands_can_be_typed_as_they_stand(page, place):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for script in blocks(page, "python"):
        if "manifest.jsonl" in script:
            subprocess.run([sys.executable, "-c", script], cwd=place, check=True, timeout=60)
    with PricedServer() as server, serving() as hub:
        environment = os.environ | {"PATH": path, "OPENAI_API_KEY": KEY, "HF_ENDPOINT": hub.url}
        environment["HF_HOME"] = str(place / "hub")
        ran = 0
        for command in commands(page):
            if any(word in command for word in NEEDS_MORE) or "pytest" in command:
                continue
            command = re.sub(r"http://localhost:800[01]/v1", server.options()[1], command)
            command = re.sub(r"\b(MANIFEST|VIDEOS|FOLDER)\b", "MANIFEST.jsonl", command)
            typed(command.replace("[OTHER]", ""), place, environment)
            ran += 1
        assert ran >= 5 and (place / "OUT" / "run.json").exists()
        assert "owner/name" in str(hub.private) and hub.files
