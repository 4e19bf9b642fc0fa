"""``python -m pipeline NAME --flag value``: the entry points of MLproject, and nothing else."""

from pipeline.cli import run

if __name__ == "__main__":
    run()
