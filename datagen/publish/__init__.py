"""What a dataset looks like to strangers: its card, its licences, its way to the Hugging Face Hub."""
