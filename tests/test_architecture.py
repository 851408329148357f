"""Who may import whom, as CONTRIBUTING.md says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "datagen"
FILES = sorted(PACKAGE.rglob("*.py"))

BASE = {"records", "errors", "resources", "remote"}
FLOOR = {"config", "ledger", "sandbox", "sources", "media", "llm", "segments"}
ALLOWED = {
    "records": set(),
    "errors": set(),
    "resources": set(),
    "remote": {"records", "errors"},
    "scratch": BASE,
    "config": BASE,
    "pipeline_file": BASE | {"config"},
    "ledger": BASE,
    "salvage": BASE | {"ledger"},
    "guard": set(),
    "spool": set(),
    "sandbox": BASE | {"guard"},
    "sources": BASE,
    "media": BASE | {"config"},
    "llm": BASE | {"config"},
    "segments": BASE | {"config"},
    "samples": BASE,
    "dialogue": BASE | FLOOR,
    "export": BASE | FLOOR | {"dialogue"},
    "training": BASE | {"llm", "export"},
    "runner": BASE | {"ledger", "sandbox", "spool"},
    "lanes": BASE | {"ledger", "runner"},
    "cluster": BASE | {"guard", "lanes", "ledger", "runner", "sandbox"},
    "engine": BASE | {"cluster", "lanes", "ledger", "runner"},
    "flow": BASE | FLOOR | {"scratch", "dialogue", "export", "runner"},
    "plan": BASE | FLOOR | {"flow", "runner"},
    "progress": BASE | {"ledger", "money", "config"},
    "report": BASE | FLOOR | {"plan", "money", "export", "progress"},
    "money": BASE | FLOOR,
    "assumptions": BASE | FLOOR | {"money"},
    "estimate": BASE | FLOOR | {"scratch", "flow", "plan", "runner", "money", "assumptions"},
    "dry_run": BASE | FLOOR | {"scratch", "flow", "plan", "runner", "money", "estimate", "report"},
    "options": BASE,
    "inspect": BASE | FLOOR | {"dialogue", "export"},
    "publish": BASE | FLOOR | {"dialogue", "export", "inspect"},
    "__main__": set(),
}
ONLY_IN = {
    "openai": {"llm"},
    "av": {"media", "samples"},
    "cv2": {"media", "samples"},
    "ffmpeg": {"media", "samples"},
    "scenedetect": {"media"},
    "ray": {"cluster"},
    "verl": {"training"},
}
LAZY = {"aiohttp", "fsspec", "httpx2", "openai", "torch", "transformers", "ray", "vllm"}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_keep_to_the_plan_of_the_house(path):
    tree = ast.parse(path.read_text())
    here = room(path)
    for name in imports(tree):
        top, *rest = name.split(".")
        if top == "datagen" and rest:
            assert here in {"build", "__init__"} or rest[0] in ALLOWED[here] | {here}, (
                f"{here} imports {name}"
            )
        if top in ONLY_IN:
            assert here in ONLY_IN[top], f"{here} imports {name}"
    for node in tree.body:
        for name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom) else []:
            assert name.split(".")[0] not in LAZY, f"{name} must be imported where it is used"


def test_files_stay_short():
    long = {str(p.relative_to(PACKAGE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 350}
    assert not long
