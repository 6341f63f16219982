"""Jars: pinned, checked, from the mirror a machine names."""

from pathlib import Path

import pytest

from agents.settings import cache_dir
from streams.kafka import jars
from streams.kafka.jars import Jar, JarRefused, classpath, mirror, pinned


def test_kafka_is_the_version_we_say_and_every_jar_has_a_sum():
    broker = pinned("broker")
    assert any(str(jar) == "org.apache.kafka:kafka_2.13:4.4.0" for jar in broker)
    assert all(len(jar.sha256) == 64 for jar in broker + pinned("tools") + pinned("compiler"))


def test_a_jar_that_is_not_the_pinned_one_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jar = Jar("org.slf4j", "slf4j-api", "1.7.36", "0" * 64)
    path = tmp_path / "jars/org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another program")
    monkeypatch.setattr(jars, "pinned", lambda _: [jar])
    with pytest.raises(JarRefused, match=r"org.slf4j:slf4j-api:1.7.36: sha256 is [0-9a-f]{64}, pinned is 0{64}"):
        classpath("broker", tmp_path, [])


def test_a_jar_changed_after_its_check_is_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import hashlib

    content = b"the right one"
    jar = Jar("a", "b", "1", hashlib.sha256(content).hexdigest())
    path = tmp_path / "jars/a/b/1/b-1.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(jars, "pinned", lambda _: [jar])
    assert classpath("broker", tmp_path, []) == str(path)
    path.write_bytes(b"another one!!")
    with pytest.raises(JarRefused):
        classpath("broker", tmp_path, [])


@pytest.mark.parametrize(
    ("of", "stands"), [("central", True), ("*", True), ("*,!central", False), ("mine", False), ("external:*", True)]
)
def test_a_mirror_of_central_is_honoured(tmp_path: Path, of: str, stands: bool):
    settings = tmp_path / "settings.xml"
    settings.write_text(
        f'<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors><mirror><id>m</id>'
        f"<url>http://127.0.0.1:9/m</url><mirrorOf>{of}</mirrorOf></mirror></mirrors></settings>"
    )
    assert mirror([settings]) == ("http://127.0.0.1:9/m" if stands else None)
    assert mirror([tmp_path / "none.xml"]) is None


def test_the_mirror_is_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = tmp_path / "settings.xml"
    settings.write_text(
        "<settings><mirrors><mirror><url>http://127.0.0.1:9/mirror</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>"
    )
    monkeypatch.setattr(jars, "pinned", lambda _: [Jar("org.slf4j", "slf4j-api", "1.7.36", "0" * 64)])
    with pytest.raises(JarRefused, match="127.0.0.1"):
        classpath("broker", tmp_path / "cache", [settings])


def test_the_cache_is_the_users(tmp_path: Path):
    assert cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "rendezvous"
