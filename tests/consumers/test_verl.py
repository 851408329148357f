"""The RL rows in verl 0.9.1: its dataset, its rollout workers with our agent loop, its reward workers."""

import json
import os
import re
import subprocess
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest
from PIL import Image

from datagen.export.pauc import RELEASED, reward, truth_spans
from datagen.records import NO_REPLY, SYSTEM_PROMPT
from tests.consumers.reading import read_rows
from tests.judge_server import JudgeServer

pytestmark = [
    pytest.mark.consumers,
    pytest.mark.skipif(not find_spec("verl"), reason="needs tests/consumers/verl.txt"),
    pytest.mark.usefixtures("torchvision_without_cuda"),
]

LAYOUTS = ("two_frames_a_turn", "one_frame_a_turn", "embedded")
LENGTHS = ("data.max_prompt_length=4000", "data.max_response_length=8550")


@pytest.fixture
def judge():
    with JudgeServer() as server:
        yield server


@pytest.fixture
def rows(part):
    return read_rows(part, "rl")


@pytest.fixture
def user_turns(part):
    turns = {}
    for path in sorted((part / "rl" / "user_turns").glob("*.json")):
        turns |= json.loads(path.read_text())
    return turns


def dataset(tiny, files, *changes):
    from verl.utils import hf_processor, hf_tokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    from tests.consumers.verl_rollouts import recipe

    config = recipe(tiny, "http://unused/v1", *LENGTHS, *changes)
    return RLHFDataset(files or config.data.train_files, hf_tokenizer(tiny), config.data, hf_processor(tiny))


def policies(row):
    """What is said at each decision: the truth at once and as late as it counts, nothing, and too much."""
    truth = row["reward_model"]["ground_truth"]
    times = truth["model_pred_timestamps"]
    first, last = [NO_REPLY] * len(times), [NO_REPLY] * len(times)
    for span in truth_spans(truth):
        within = [number for number, time in enumerate(times) if span.holds(time)]
        first[within[0]] = last[within[-1]] = span.text
    babble = [f"The talk goes on, part {number} of it." for number in range(len(times))]
    return {"truth": first, "late": last, "silence": [NO_REPLY] * len(times), "babble": babble}


def earned(row, replies):
    """The reward with a judge who knows the truth by its words."""
    truth = row["reward_model"]["ground_truth"]
    return reward(
        truth_spans(truth),
        truth["model_pred_timestamps"],
        replies,
        truth["prev_assistant_replies"],
        lambda question, reply, answer: 4.0 if reply == answer else 0.0,
        lambda earlier, reply: any(reply in said for said in earlier),
        RELEASED,
    )


@pytest.mark.parametrize("part", LAYOUTS, indirect=True)
def test_as_many_rows_come_out_as_go_in(rows, tiny):
    found = dataset(tiny, None, "data.filter_overlong_prompts=true")
    assert len(found) == len(rows) > 0
    for row, given in zip(rows, found, strict=True):
        assert given["agent_name"] == "proactive"
        assert given["extra_info"]["question_id"] == row["extra_info"]["question_id"]
        assert given["reward_model"] == row["reward_model"]
        frames = iter(_pixels(image.get("image") or image["path"]) for image in row["images"])
        for message, said in zip(row["prompt"], given["raw_prompt"], strict=True):
            assert said["role"] == message["role"]
            blocks = said["content"]
            if isinstance(blocks, str):
                blocks = [{"type": "text", "text": blocks}] if blocks else []
            shown = [_pixels(block["image"]) for block in blocks if block["type"] == "image"]
            assert shown == [next(frames) for _ in range(message["content"].count("<image>"))]
            text = "".join(block["text"] for block in blocks if block["type"] == "text")
            assert text == message["content"].replace("<image>", "")
        assert next(frames, None) is None
        assert row["prompt"][0]["content"] == SYSTEM_PROMPT


def _pixels(picture):
    """Of a path, or of a picture that was embedded."""
    return (Image.open(picture) if isinstance(picture, str) else picture).convert("RGB").tobytes()


def test_verls_filter_drops_what_it_cannot_read_without_a_word(rows, tiny, tmp_path):
    """Why the recipe has it off: nothing else tells that frames are not where the rows say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for row in rows:
        row["images"] = [{"bytes": None, "path": image["image"]} for image in row["images"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert len(dataset(tiny, [str(tmp_path / "rows.parquet")], "data.filter_overlong_prompts=true")) == 0


@pytest.mark.parametrize("part", LAYOUTS, indirect=True)
def test_a_rollout_is_the_whole_conversation_and_the_policys_words_alone_are_learned(
    rows, user_turns, tiny, judge, tmp_path
):
    from tests.consumers.verl_rollouts import recipe, roll_out, with_long_replies

    config = recipe(tiny, judge.url, *LENGTHS, with_long_replies(tmp_path, 400))
    for number, row in enumerate(rows):
        replies = policies(row)["truth"]
        batch, worker, policy = roll_out(config, number, [replies])
        turns = user_turns[row["extra_info"]["question_id"]]
        asked = sum(message["role"] == "user" for message in row["prompt"])
        said = [message["content"] for message in row["prompt"] if message["role"] == "assistant"]
        messages = [{"role": "system", "content": SYSTEM_PROMPT}]
        for turn, reply in zip(turns, said + replies, strict=True):
            messages += [
                {"role": "user", "content": turn["content"]},
                {"role": "assistant", "content": reply},
            ]
        frames = [b["image"] for turn in turns for b in turn["content"] if b["type"] == "image"]
        pictures = [Image.open(frame).convert("RGB") for frame in frames]
        text = worker.processor.apply_chat_template(messages, tokenize=False)
        whole = worker.processor(text=[text.removesuffix("\n")], images=pictures, return_tensors="pt")

        seen = batch.batch["attention_mask"][0].bool()
        assert batch.batch["input_ids"][0][seen].tolist() == whole["input_ids"][0].tolist()
        inputs = batch.non_tensor_batch["multi_modal_inputs"][0]
        assert inputs["pixel_values"].equal(whole["pixel_values"])
        assert inputs["image_grid_thw"].equal(whole["image_grid_thw"])

        mask, tokens = batch.batch["response_mask"][0], batch.batch["responses"][0]
        runs = [
            [token for token, _ in run] for own, run in groupby(zip(tokens, mask, strict=True), _own) if own
        ]
        assert [worker.tokenizer.decode(run) for run in runs] == [f"{reply}<|im_end|>" for reply in replies]
        logprobs = batch.batch["rollout_log_probs"][0]
        assert [{float(p) for p in run} for run in _split(logprobs, mask)] == [
            {-float(n + 1)} for n in range(len(replies))
        ]
        assert not logprobs[mask == 0].any()
        assert batch.non_tensor_batch["min_global_steps"][0] == 7
        assert batch.non_tensor_batch["max_global_steps"][0] == 7 + len(replies)

        # At each decision the policy has been shown the frames up to then, and no later one.
        (calls,) = policy.calls.values()
        shown = [
            sum(b["type"] == "image" for t in turns[:n] for b in t["content"]) for n in range(len(turns) + 1)
        ]
        assert [len(images) for _, images in calls] == shown[asked:]
        lengths = [length for length, _ in calls]
        assert lengths == sorted(set(lengths))


def _own(pair):
    return bool(pair[1])


def _split(values, mask):
    pairs = zip(values, mask, strict=True)
    return [[value for value, _ in run] for own, run in groupby(pairs, _own) if own]


def test_verls_reward_worker_gives_what_pauc_says(rows, tiny, judge, tmp_path):
    from tests.consumers.verl_rollouts import recipe, roll_out, with_long_replies

    config = recipe(tiny, judge.url, *LENGTHS, with_long_replies(tmp_path, 400))
    for number, row in enumerate(rows):
        scripts = policies(row)
        batch, _, _ = roll_out(config, number, list(scripts.values()))
        said = batch.non_tensor_batch["replies"].tolist()
        assert sorted(said) == sorted(scripts.values())
        right = [earned(row, replies) for replies in said]
        assert batch.batch["rm_scores"].sum(-1).tolist() == pytest.approx([one.total for one in right])
        for name in ("pauc", "repetition", "out_of_span", "common_prefix"):
            assert batch.non_tensor_batch[name].tolist() == [getattr(one, name) for one in right]
        assert batch.non_tensor_batch["judge_failures"].tolist() == [0] * 4
        totals = {name: earned(row, replies).total for name, replies in scripts.items()}
        assert totals["truth"] >= totals["late"] > totals["silence"] > totals["babble"]
        # The score stands on the last token of each rollout.
        ends = batch.batch["attention_mask"][:, 4000:].sum(-1) - 1
        assert [row.nonzero().flatten().tolist() for row in batch.batch["rm_scores"]] == [
            [int(e)] for e in ends
        ]


def test_a_reply_that_is_cut_off_is_ended_without_being_learned(rows, tiny, judge, tmp_path):
    from tests.consumers.verl_rollouts import recipe, roll_out, with_long_replies

    config = recipe(tiny, judge.url, *LENGTHS, with_long_replies(tmp_path, 3))
    turns = len(rows[0]["reward_model"]["ground_truth"]["model_pred_timestamps"])
    batch, worker, _ = roll_out(config, 0, [["This goes on for far too long."] * turns])
    mask, tokens = batch.batch["response_mask"][0], batch.batch["responses"][0]
    assert [len(run) for run in _split(tokens, mask)] == [3] * turns
    text = worker.tokenizer.decode(tokens[batch.batch["attention_mask"][0][4000:].bool()])
    cut = worker.tokenizer.decode(worker.tokenizer.encode("This goes on for far too long.")[:3])
    assert len(re.findall(rf"{re.escape(cut)}<\|im_end\|>\n<\|im_start\|>user\n", text)) == turns - 1


def test_what_does_not_fit_is_told_and_not_cut(rows, tiny, judge):
    from tests.consumers.verl_rollouts import recipe, roll_out

    replies = [policies(rows[0])["silence"]]
    with pytest.raises(ValueError, match=r"max_response_length: 150 tokens do not hold reply \d of this row"):
        roll_out(recipe(tiny, judge.url, LENGTHS[0], "data.max_response_length=150"), 0, replies)
    with pytest.raises(ValueError, match=r"exceeding rollout\.prompt_length=50"):
        roll_out(recipe(tiny, judge.url, "data.max_prompt_length=50", LENGTHS[1]), 0, replies)


def test_a_row_without_user_turns_is_told(part, tiny, judge):
    from datagen.training.agent_loop import find_user_turns

    files = sorted(map(str, Path("rl/user_turns").glob("*.json")))
    with pytest.raises(ValueError, match=r"nothing for 'v1#0#seg9'"):
        find_user_turns(files, "v1#0#seg9")


def test_the_recipe_is_valid_and_a_wrong_key_in_it_is_not(part, tiny):
    from hydra.errors import ConfigCompositionException
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from tests.consumers.verl_rollouts import recipe

    config = recipe(tiny, "http://judge/v1")
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert not need_critic(config) and not need_reference_policy(config)
    assert (config.actor_rollout_ref.rollout.n, config.actor_rollout_ref.actor.optim.lr) == (4, 1e-6)
    assert config.actor_rollout_ref.rollout.response_length == config.data.max_response_length
    assert get_custom_reward_fn(config).args[0].__module__ == "datagen.training.reward"
    with pytest.raises(ConfigCompositionException, match="tempreature"):
        recipe(tiny, "http://judge/v1", "actor_rollout_ref.rollout.tempreature=1")


def test_the_command_starts_verl_with_all_shards_in_the_datasets_folder(part, tiny, tmp_path):
    from tests.consumers.verl_rollouts import RECIPE, recipe

    noting = tmp_path / "python"
    noting.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" > {tmp_path}/noted\n')
    noting.chmod(0o755)
    places = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JUDGE_URL": "http://judge/v1",
        "JUDGE_MODEL": "judge",
    }
    command = [RECIPE / "train.sh", part, tiny, "trainer.nnodes=2"]
    subprocess.run(command, env=os.environ | places, cwd="/", check=True)
    folder, *arguments = (tmp_path / "noted").read_text().splitlines()
    assert folder == str(part)
    module = ["-m", "verl.trainer.main_ppo", "--config-path", str(RECIPE), "--config-name", "grpo"]
    assert arguments[:6] == module
    config = recipe(tiny, "http://judge/v1", *arguments[6:])
    assert config.data.train_files == [str(path) for path in sorted(part.glob("rl/train-*.parquet"))]
    assert config.data.val_files == [str(path) for path in sorted(part.glob("rl/val-*.parquet"))]
    assert config.trainer.nnodes == 2


def test_the_longest_window_fits_into_the_recipes_lengths():
    from tests.consumers.verl_rollouts import recipe

    lengths = recipe("m", "http://judge/v1").data
    # 60 s at 2 s a frame and a frame a turn: a frame has 128 tokens and 2 marks, a turn's roles and ends are
    # 10, the longest reply is 100. The window's first turn stands in the prompt. 500 tokens for questions.
    assert lengths.max_response_length > 29 * (130 + 10) + 30 * 101 + 500
    assert lengths.max_prompt_length > 90 * 130 + 90 * 40


def test_the_released_trainers_rule_of_fetching_turns_plays_each_window_to_its_end(rows, user_turns):
    """The turn to come has the number of user turns so far; an empty one ends the conversation."""
    for row in rows:
        turns = user_turns[
            row["extra_info"]["tools_kwargs"]["online_video_provider"]["execute_kwargs"]["question_id"]
        ]
        conversation = [message["role"] for message in row["prompt"]]
        fetched = []
        while True:
            conversation.append("assistant")
            number = conversation.count("user")
            if number >= len(turns):
                break
            fetched.append(json.loads(json.dumps(turns[number]["content"])))
            conversation.append("user")
        truth = row["reward_model"]["ground_truth"]
        decisions = 1 + len(fetched)
        assert decisions == len(truth["model_pred_timestamps"])
        assert [turn["time"] for turn in turns][-decisions:] == truth["model_pred_timestamps"]
        frames = [block["image"] for turn in turns for block in turn["content"] if block["type"] == "image"]
        assert frames[: len(row["images"])] == [image["image"] for image in row["images"]]
        assert all(Path(frame).is_file() for frame in frames)


def test_the_released_tool_configuration_names_files_that_are_there(part, user_turns):
    import yaml

    from tests.consumers.verl_rollouts import RECIPE

    (tool,) = yaml.safe_load((RECIPE / "released_tool_config.yaml").read_text())["tools"]
    annotations = {}
    for path in filter(Path.exists, map(Path, tool["config"]["annotation_paths"])):
        annotations.update(json.loads(path.read_text()))
    assert annotations == user_turns


@pytest.mark.parametrize("part", ["two_frames_a_turn"], indirect=True)
def test_a_step_of_grpo_makes_the_truth_likelier(rows, tiny, judge, tmp_path):
    """verl's advantages and policy loss on its own batch; its trainer needs GPUs and a model's server."""
    import numpy as np
    import torch
    from transformers import AutoModelForImageTextToText
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, get_policy_loss_fn
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.torch_functional import logprobs_from_logits

    from tests.consumers.verl_rollouts import recipe, roll_out, with_long_replies

    config = recipe(tiny, judge.url, *LENGTHS, with_long_replies(tmp_path, 400))
    scripts = policies(rows[0])
    batch, _, _ = roll_out(config, 0, [scripts["truth"], scripts["babble"]])
    mask = batch.batch["response_mask"]
    advantages, _ = compute_grpo_outcome_advantage(batch.batch["rm_scores"], mask, np.array(["one", "one"]))
    truth = [said == scripts["truth"] for said in batch.non_tensor_batch["replies"]].index(True)
    assert (advantages[truth][mask[truth].bool()] > 0).all()
    assert (advantages[1 - truth][mask[1 - truth].bool()] < 0).all()
    assert not advantages[mask == 0].any()

    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)

    def logprobs():
        found = torch.zeros(mask.shape)
        for n, pictures in enumerate(batch.non_tensor_batch["multi_modal_inputs"]):
            own = mask[n].nonzero().flatten()
            seen = batch.batch["attention_mask"][n].bool()
            before = int(seen[:4000].sum()) + own - 1
            logits = model(
                input_ids=batch.batch["input_ids"][n : n + 1, seen],
                position_ids=batch.batch["position_ids"][n : n + 1, :, seen].transpose(0, 1),
                pixel_values=pictures["pixel_values"],
                image_grid_thw=pictures["image_grid_thw"],
                logits_to_keep=before,
            ).logits
            found[n, own] = logprobs_from_logits(logits, batch.batch["responses"][n : n + 1, own])[0]
        return found

    with torch.no_grad():
        old = logprobs()
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    loss, _ = get_policy_loss_fn(actor.policy_loss.loss_mode)(
        old, logprobs(), advantages, mask, loss_agg_mode=actor.loss_agg_mode, config=actor
    )
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    with torch.no_grad():
        gained = ((logprobs() - old) * mask).sum(-1) / mask.sum(-1)
    assert gained[truth] > gained[1 - truth]
    assert gained[truth] > 0
