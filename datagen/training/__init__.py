"""What a trainer imports: SFT rows for PyTorch; the rollout and the reward of RL, for verl."""
