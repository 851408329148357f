"""SFT with TRL 1.16, in the folder of a build:  python RECIPES/sft/trl_sft.py [--max_steps 2 ...]

Takes every option of TRL's SFTConfig, and --model. The model is the paper's (arXiv 2512.06810), and so is
what the build gives it: a frame every 2 s, 2 frames a turn, replies at the end of their spans. The rest is
ours.
"""

from dataclasses import dataclass

from datasets import Image, List, load_dataset
from transformers import HfArgumentParser
from trl import SFTConfig, SFTTrainer

SETTINGS = {
    "output_dir": "runs/sft",
    "assistant_only_loss": True,  # each reply and each NO REPLY is learned, nothing else
    "max_length": None,  # TRL's 1024 would cut rows in the middle of their frames
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,
    "save_strategy": "epoch",
    "seed": 0,
}


@dataclass
class Chosen:
    """What is trained."""

    model: str = "Qwen/Qwen2.5-VL-3B-Instruct"


def main() -> None:
    """Train on all shards of `sft`."""
    parser = HfArgumentParser((Chosen, SFTConfig))
    parser.set_defaults(**SETTINGS)
    chosen, config = parser.parse_args_into_dataclasses()
    rows = load_dataset("parquet", data_files="sft/*.parquet", split="train")
    # The blocks say where each frame stands; of `messages` TRL would put all before the first question.
    rows = rows.select_columns(["messages_blocks", "images"]).rename_column("messages_blocks", "messages")
    rows = rows.cast_column("images", List(Image()))  # by path or embedded
    trainer = SFTTrainer(model=chosen.model, args=config, train_dataset=rows)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
