"""The commands of `clamp`, one file each: `add` makes its parser, whose `run` option is the function that does it."""
