"""From planned runs to finished records: the store, the engines that fill it, and what made a result."""
