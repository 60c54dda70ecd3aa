"""A flow, and nothing else: what a job of the example beside it does."""

from taskflow import task
from taskflow.patterns import linear_flow


class Compose(task.Task):
    default_provides = "text"

    def execute(self, name: str) -> str:
        return f"Hello {name}"


class Shout(task.Task):
    default_provides = "shout"

    def execute(self, text: str) -> str:
        return text.upper()


def make_flow() -> linear_flow.Flow:
    """The factory: a job's flow names it, and whoever runs the job calls it."""
    return linear_flow.Flow("greeting").add(Compose(), Shout())
