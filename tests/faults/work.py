"""Whether the roles of a pipeline are at work, and what became of them meanwhile."""

from pathlib import Path

from tests.broker.pipelines import Up, until


def assert_all_at_work(pipeline: Up, within_s: float = 30) -> None:
    """Every role works, or works again; none ended by an error. To be started again after a lost session is none."""
    until(lambda: all_at_work(pipeline), within_s, "everybody works")
    logs = {path.name: path.read_text() for path in Path(pipeline.status["logs"]).glob("*.log")}
    errors = {name: text[text.index("ended by") :][:500] for name, text in logs.items() if "ended by" in text}
    assert not errors, errors


def all_at_work(pipeline: Up) -> bool:
    return all(role["state"] == "running" for role in pipeline.status["roles"].values())


def await_rest(pipeline: Up, within_s: float = 40) -> None:
    """Wait until the last fault is over: everybody works, and no row waits for the router or a model."""

    def at_rest() -> bool:
        found = pipeline.status["roles"].items()
        waiting = [role["lag"] for name, role in found if name.startswith(("router", "scorer"))]
        return all_at_work(pipeline) and not any(waiting)

    until(at_rest, within_s, "everybody is at rest")


def restarts(pipeline: Up) -> int:
    return sum(pipeline.restarts(role) for role in pipeline.status["roles"])
