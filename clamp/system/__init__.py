"""What training, prediction and experiments need of the operating system, and nothing of the model."""
