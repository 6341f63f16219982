"""Every client that is opened anywhere is opened with the cluster's settings: TLS and SASL reach them all."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from agents.app import edge_of
from streams.kafka.clients import Cluster
from tests.unit.small import pipeline

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("agents", "streams", "schemas", "deploy") for path in (ROOT / folder).rglob("*.py")]
CLIENTS = {"Producer", "Consumer", "AdminClient"}
OF_A_CLUSTER = re.compile(
    r"\.(settings|producer_settings|consumer_settings|reader_settings)\(|\bedge\.(consumer|producer)\b"
)
OWN_BROKER = "{'bootstrap.servers': f'127.0.0.1:{port}', 'log_level': 0}"
"""The local broker's own probe, before there is a cluster."""
LOCAL = {"broker.start()", "running.bootstrap", "about['bootstrap']"}
"""Where a cluster without security is made: the address of the broker that was started here."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def calls(path: Path, of: set[str]) -> Iterator[str]:
    """The first argument of each call of these classes of confluent-kafka, whatever they are called here."""
    tree = parsed(path)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(("confluent_kafka", "streams.kafka.clients"))
        for alias in node.names
        if alias.name in of
    }
    if not names:
        return
    assigned = {
        target.id: ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            settings = ast.unparse(node.args[0])
            first = settings.partition(" | ")[0]
            yield settings.replace(first, assigned.get(first, first), 1)


def test_every_client_takes_its_settings_from_the_cluster():
    found = {f"{path.relative_to(ROOT)}: {settings}" for path in FILES for settings in calls(path, CLIENTS)}
    assert len(found) >= 8, found
    assert [each for each in found if not OF_A_CLUSTER.search(each)] == [f"streams/kafka/local.py: {OWN_BROKER}"]


def test_a_cluster_without_security_is_only_ever_the_local_one():
    found = [(path, address) for path in FILES for address in calls(path, {"Cluster"})]
    assert found
    assert {address for _, address in found} <= LOCAL
    for path in {path for path, address in found}:
        assert "cluster_of(" in path.read_text(), f"{path} never asks the environment for a cluster"


@pytest.mark.parametrize("role", ["router", "scorer", "rendezvous", "standby", "archiver"])
def test_security_reaches_both_clients_of_a_role(role: str):
    security = {"security.protocol": "SASL_SSL", "sasl.password": "p", "ssl.ca.location": "/ca.pem"}
    edge = edge_of(role, pipeline(), Cluster("k:9093", security))
    for client in (edge.consumer, edge.producer):
        assert security.items() <= client.items()
