"""Model folders: their names, and what is said of a folder that is none."""

import importlib.util
import shutil

import pytest

from datagen.errors import UsageError
from datagen.llm.local import check_local, model_identity


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Tiny-7B"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    return folder


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_a_moved_model_keeps_its_name_and_the_name_tells_no_path(folder, tmp_path):
    name = model_identity(folder)
    assert name.startswith("Tiny-7B@") and len(name) == len("Tiny-7B@") + 8
    assert str(tmp_path) not in name
    moved = tmp_path / "elsewhere" / "Tiny-7B"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    assert model_identity(moved) == name
    (moved / "README.md").write_text("words on the model")
    (moved / ".cache").mkdir()
    assert model_identity(moved) == name


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_another_word_in_a_small_file_makes_another_model(folder, file):
    name = model_identity(folder)
    (folder / file).write_text((folder / file).read_text() + " ")
    assert model_identity(folder) != name


def test_another_checkpoint_of_the_same_size_is_another_model(folder):
    name = model_identity(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(bytes(255 - byte for byte in weights.read_bytes()))
    assert model_identity(folder) != name


def test_weights_under_another_name_are_another_model(folder):
    name = model_identity(folder)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    assert model_identity(folder) != name


def test_a_good_folder_gives_its_configuration(folder, installed):
    assert check_local("transformers", folder, "--llm-model") == {"model_type": "qwen2"}


def break_folder(folder, how):
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "file":
        shutil.rmtree(folder)
        folder.write_text("no folder")
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    else:
        (folder / "config.json").write_text(how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gone", "no such folder"),
        ("file", "no such folder"),
        ("no config", "no config.json"),
        ("no weights", "no weights"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "must hold an object"),
    ],
)
def test_a_folder_that_is_no_model_is_named_with_its_flag(folder, installed, how, words):
    break_folder(folder, how)
    with pytest.raises(UsageError) as error:
        check_local("transformers", folder, "--vlm-model")
    assert str(error.value).startswith(f"--vlm-model {folder}: ") and words in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("backend", "missing", "extra"),
    [("transformers", "torch", "torch"), ("transformers", "transformers", "torch"), ("vllm", "vllm", "vllm")],
)
def test_a_missing_package_is_named_with_the_way_to_install_it(folder, monkeypatch, backend, missing, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(UsageError) as error:
        check_local(backend, folder, "--llm-model")
    assert str(error.value) == (
        f"--llm-url {backend}: {missing} is not installed; pip install 'datagen[{extra}]'"
    )
