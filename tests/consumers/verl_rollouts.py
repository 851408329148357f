"""RL rows rolled out by verl's own workers, with a policy that says what a test tells it to."""

import asyncio
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from verl.experimental.agent_loop import AgentLoopWorker
from verl.experimental.reward_loop import RewardLoopWorker
from verl.protocol import DataProto
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.replica import TokenOutput

RECIPE = Path(__file__).parents[2] / "recipes" / "grpo"


def with_long_replies(folder: Path, most: int) -> str:
    """A change of the recipe: replies of `most` tokens. The tiny model spells words out, letter by letter."""
    text = (RECIPE / "agent_loop.yaml").read_text()
    loop = folder / f"{most}.yaml"
    loop.write_text(text.replace("max_reply_tokens: 100", f"max_reply_tokens: {most}"))
    return f"actor_rollout_ref.rollout.agent.agent_loop_config_path={loop}"


def recipe(model: Path, judge_url: str, *changes: str) -> DictConfig:
    """The recipe as train.sh gives it to verl, for the RL rows below the current folder."""
    places = {"MODEL": str(model), "RECIPE": str(RECIPE), "JUDGE_URL": judge_url, "JUDGE_MODEL": "judge"}
    files = ",".join(str(path) for path in sorted(Path("rl").glob("*.parquet")))
    given = [f"data.train_files=[{files}]", f"data.val_files=[{files}]", *changes]
    with patch.dict(os.environ, places), initialize_config_dir(str(RECIPE), version_base=None):
        config = compose("grpo", overrides=given)
        OmegaConf.resolve(config)
    return config


class Policy:
    """In place of verl's servers of the model: the first rollout to ask says the first script, and so on."""

    def __init__(self, tokenizer, scripts: Sequence[Sequence[str]]) -> None:
        self.tokenizer, self.scripts, self.calls = tokenizer, list(scripts), {}

    async def generate(self, request_id, *, prompt_ids, sampling_params, image_data=None, **more):
        """A reply and its end, cut off as the sampling parameters say."""
        calls = self.calls.setdefault(request_id, [])
        script = self.scripts[list(self.calls).index(request_id)]
        tokens = [*self.tokenizer.encode(script[len(calls)]), self.tokenizer.eos_token_id]
        tokens = tokens[: sampling_params["max_tokens"]]
        calls.append((len(prompt_ids), image_data))
        await asyncio.sleep(0)
        logprobs = [-float(len(calls))] * len(tokens) if sampling_params["logprobs"] else None
        steps = {"min_global_steps": 7, "max_global_steps": 7 + len(calls)}
        return TokenOutput(token_ids=tokens, log_probs=logprobs, extra_fields=steps)


def roll_out(config: DictConfig, number: int, scripts: Sequence[Sequence[str]]):
    """Row `number` of the dataset with a rollout for each script: verl's batch, its worker and the policy.

    Rewards come from verl's reward worker, which gets its data pickled, as from another process.
    """

    async def run():
        reward = RewardLoopWorker(config)

        async def score(data):
            return await reward.compute_score(pickle.loads(pickle.dumps(data)))

        handle = SimpleNamespace(compute_score=SimpleNamespace(remote=score))
        worker = AgentLoopWorker(config, None, reward_loop_worker_handles=[handle])
        worker.llm_client = policy = Policy(worker.tokenizer, scripts)
        rows = RLHFDataset(config.data.train_files, worker.tokenizer, config.data, worker.processor)
        batch = DataProto.from_single_dict(collate_fn([rows[number] for _ in scripts]))
        return await worker.generate_sequences(batch), worker, policy

    return asyncio.run(run())
