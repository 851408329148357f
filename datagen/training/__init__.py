"""What a trainer imports: the rollout and the reward of RL, for verl."""
