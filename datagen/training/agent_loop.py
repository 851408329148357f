"""The rollout of RL rows in verl: user turns are played one after the other, the policy decides at each.

verl imports this module by the name in its agent loop configuration (recipes/grpo/agent_loop.yaml); nothing
else of the package does, so that verl is needed where training runs and nowhere else.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput
from verl.utils.profiler import simple_timer

UserTurns = list[dict[str, Any]]


class Rollout(Struct):
    """A conversation under way, as messages and as tokens."""

    messages: list[dict[str, Any]]
    images: list[Any]
    """PIL images of all frames shown, in order."""
    tokens: list[int]
    mask: list[int]
    """For each token after the prompt: 1 for the policy's own, 0 for a user turn's."""
    logprobs: list[float] | None
    """The same with the policy's log probabilities, 0 for a user turn's; None if they are not asked for."""
    replies: list[str]
    metrics: dict[str, Any]
    extra: dict[str, Any]


class ProactiveAgentLoop(AgentLoopBase):  # type: ignore[misc]
    """Plays the user turns of an RL row's window to its end. The reply to each is NO REPLY or words."""

    def __init__(
        self, *args: Any, user_turns: Sequence[str], max_reply_tokens: int = 100, **kwargs: Any
    ) -> None:
        """`user_turns` are the paths of rl/user_turns/*.json; a reply ends after `max_reply_tokens`."""
        super().__init__(*args, **kwargs)
        self._user_turns = user_turns
        self._max_reply_tokens = max_reply_tokens

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Roll one row out; `row` is what RLHFDataset gives, with `raw_prompt` and `extra_info`.

        The replies stand in the output's `extra_fields`, from where the reward takes them. Raises ValueError
        where the row has no user turns or does not fit into the configured lengths: nothing is truncated.
        """
        messages = list(row["raw_prompt"])
        turns = find_user_turns(self._user_turns, row["extra_info"]["question_id"])
        shown = sum(message["role"] == "user" for message in messages)
        if len(turns) < shown:
            raise ValueError(f"user_turns: {len(turns)} turns for a prompt of {shown}")
        images = (await self.process_multi_modal_info(messages)).get("images") or []
        prompt = await self.ct_build_initial_tokens(messages, images=images)
        rollout = Rollout(
            messages=messages,
            images=images,
            tokens=prompt,
            mask=[],
            logprobs=[] if sampling_params.get("logprobs") else None,
            replies=[],
            metrics={},
            extra={},
        )
        sampling = sampling_params | {"max_tokens": self._max_reply_tokens}
        request_id = uuid4().hex
        await self._reply(rollout, sampling, request_id)
        for turn in turns[shown:]:
            await self._show(rollout, turn)
            await self._reply(rollout, sampling, request_id)
        return AgentLoopOutput(
            prompt_ids=rollout.tokens[: len(prompt)],
            response_ids=rollout.tokens[len(prompt) :],
            response_mask=rollout.mask,
            response_logprobs=rollout.logprobs,
            multi_modal_data={"images": rollout.images},
            mm_processor_kwargs=self._get_mm_processor_kwargs(),
            num_turns=2 * len(rollout.replies),
            metrics=rollout.metrics,
            extra_fields=rollout.extra | {"replies": rollout.replies, "turn_scores": [], "tool_rewards": []},
        )

    async def _reply(self, rollout: Rollout, sampling: dict[str, Any], request_id: str) -> None:
        """Let the policy speak."""
        room = self.rollout_config.response_length - len(rollout.mask)
        if room < self._max_reply_tokens:
            raise ValueError(
                f"data.max_response_length: {self.rollout_config.response_length} tokens do not hold "
                f"reply {len(rollout.replies) + 1} of this row; raise it"
            )
        with simple_timer("generate_sequences", rollout.metrics):
            output = await self.server_manager.generate(
                request_id=request_id,
                prompt_ids=rollout.tokens,
                sampling_params=dict(sampling),
                image_data=rollout.images or None,
                mm_processor_kwargs=self._get_mm_processor_kwargs(),
            )
        merged, rollout.mask, rollout.logprobs = await self.ct_merge_assistant_token(
            rollout.tokens,
            output.token_ids,
            rollout.mask,
            rollout.logprobs,
            assistant_logprobs=None if rollout.logprobs is None else output.log_probs,
        )
        rollout.tokens = merged.token_ids
        text = self.tokenizer.decode(output.token_ids, skip_special_tokens=True)
        rollout.messages.append({"role": "assistant", "content": text})
        rollout.replies.append(text)
        # Which weights spoke first and last: verl measures by it how far a rollout is behind.
        steps = {key: output.extra_fields.get(key) for key in ("min_global_steps", "max_global_steps")}
        rollout.extra = {**steps, **rollout.extra, "max_global_steps": steps["max_global_steps"]}

    async def _show(self, rollout: Rollout, turn: dict[str, Any]) -> None:
        """Append a user turn, after the mark that ends the reply before it."""
        end = self.tokenizer.eos_token_id
        if rollout.tokens[-1] != end:  # The reply was cut off.
            rollout.tokens = [*rollout.tokens, end]
            rollout.mask = [*rollout.mask, 0]
            rollout.logprobs = None if rollout.logprobs is None else [*rollout.logprobs, 0.0]
        message = {"role": "user", "content": turn["content"]}
        images = (await self.process_multi_modal_info([message])).get("images") or []
        # The pictures as they will be seen stand in for their paths, so that all count the same tokens.
        pictures = iter(images)
        message["content"] = [
            {"type": "image", "image": next(pictures)} if block["type"] == "image" else block
            for block in turn["content"]
        ]
        before = list(rollout.messages)
        rollout.messages.append(message)
        merged, rollout.mask, rollout.logprobs = await self.ct_merge_context_msg(
            before, rollout.messages, rollout.tokens, rollout.mask, rollout.logprobs
        )
        rollout.tokens = merged.token_ids
        rollout.images = [*rollout.images, *images]


def find_user_turns(files: Sequence[str], question_id: str) -> UserTurns:
    """The user turns of a row, the prompt's own included. Raises ValueError where no file has them."""
    for file in files:
        if (turns := _read_user_turns(Path(file).absolute()).get(question_id)) is not None:
            return msgspec.json.decode(turns, type=UserTurns)
    raise ValueError(f"user_turns: {', '.join(files)}: nothing for {question_id!r}")


@cache
def _read_user_turns(file: Path) -> dict[str, msgspec.Raw]:
    """A file's rows, each decoded when it is its turn: as objects all would take many times the memory."""
    return msgspec.json.decode(file.read_bytes(), type=dict[str, msgspec.Raw])
