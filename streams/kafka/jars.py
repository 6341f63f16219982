"""Apache Kafka's jars: fetched from Maven Central (or the mirror this machine names), each checked by sha256.

`jars.lock` beside this file names every jar, so nothing is resolved: what runs is what was pinned.
"""

import fcntl
import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

from schemas.errors import RendezvousError


class JarRefused(RendezvousError):
    """A jar that cannot be had, or is not the one that was pinned."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned artifact."""

    group: str
    artifact: str
    version: str
    sha256: str

    def __str__(self) -> str:
        """Maven's coordinates."""
        return f"{self.group}:{self.artifact}:{self.version}"


def pinned(name: str) -> list[Jar]:
    """The jars of a set: `broker`, `tools` (the console producer and consumer), `compiler` (Java, for the tests)."""
    jars = []
    for line in files("streams.kafka").joinpath("jars.lock").read_text().splitlines():
        words = line.split()
        if words and words[0] == name:
            group, artifact, version = words[1].split(":")
            jars.append(Jar(group, artifact, version, words[2]))
    return jars


def classpath(name: str, cache: Path, settings: Sequence[Path] | None = None) -> str:
    """Java's class path for a set of jars, fetched when missing; raises JarRefused.

    `cache` is the user's cache folder. Jars are hashed once: a stamp beside them remembers sizes and times.
    """
    jars = pinned(name)
    folder = cache / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        paths = _fetch(jars, folder, default_settings() if settings is None else settings)
        _check(name, jars, paths, folder)
    return ":".join(map(str, paths))


def default_settings() -> list[Path]:
    """Where Maven keeps a person's settings."""
    return [Path.home() / ".m2" / "settings.xml"]


def mirror(settings: Sequence[Path]) -> str | None:
    """The address that stands in for Maven Central by these settings files, None for Central itself."""
    for path in settings:
        if not path.is_file():
            continue
        try:
            root = ElementTree.parse(path).getroot()  # noqa: S314  the person's own file
        except ElementTree.ParseError as error:
            raise JarRefused(f"{path}: {error}; mend or move this file of Maven's") from error
        for element in root.iter():
            if element.tag.rpartition("}")[2] == "mirror":
                found = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
                if _stands_for_central(found.get("mirrorOf", "")):
                    return found.get("url")
    return None


def _stands_for_central(mirror_of: str) -> bool:
    words = [word.strip() for word in mirror_of.split(",")]
    return "!central" not in words and bool({"*", "central", "external:*"} & set(words))


def _fetch(jars: Sequence[Jar], folder: Path, settings: Sequence[Path]) -> list[Path]:
    paths = [
        folder / Path(*jar.group.split(".")) / jar.artifact / jar.version / f"{jar.artifact}-{jar.version}.jar"
        for jar in jars
    ]
    missing = [jar for jar, path in zip(jars, paths, strict=True) if not path.exists()]
    if missing:
        from jgo.maven import MavenContext

        address = mirror(settings)
        context = MavenContext(repo_cache=folder, remote_repos={"central": address} if address else None, timeout=60)
        for number, jar in enumerate(missing, 1):
            sys.stderr.write(f"\rfetching Apache Kafka: {number} of {len(missing)} jars\033[K")
            _fetch_one(context, jar)
        sys.stderr.write("\n")
    return paths


def _fetch_one(context: object, jar: Jar) -> None:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()  # type: ignore[attr-defined]
    try:
        artifact.resolve()
    except (OSError, RuntimeError) as error:
        raise JarRefused(
            f"{jar} cannot be fetched: {error}. Look at the network, or name a mirror in Maven's settings.xml"
        ) from error


def _check(name: str, jars: Sequence[Jar], paths: Sequence[Path], folder: Path) -> None:
    stamp = folder / f"{name}.checked"
    seen = "\n".join(
        f"{jar} {jar.sha256} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for jar, path in zip(jars, paths, strict=True)
    )
    if stamp.exists() and stamp.read_text() == seen:
        return
    for jar, path in zip(jars, paths, strict=True):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != jar.sha256:
            raise JarRefused(
                f"{jar}: sha256 is {found}, pinned is {jar.sha256}. Remove {path} and start again; "
                "if it comes back the same, what you fetch from is not Maven Central"
            )
    stamp.write_text(seen)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process fetches; the others wait. The lock goes with the process that holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
