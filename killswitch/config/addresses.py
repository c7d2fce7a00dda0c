"""Addresses, topics and the journal's place: checks as in config_values.py, each a value or a sentence."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainValidator

from killswitch.config.values import UNSAFE, EnvText, is_label, wrong

_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_TOPIC_BYTES_MAX: Final = 65_535  # MQTT 3.1.1, section 1.5.3
_PREFIX_MAX: Final = 100
PORTS: Final = {"ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443}
RECORDING_ENDS: Final = ".jsonl"


def _address(value: object, schemes: tuple[str, ...]) -> str:
    either = " or ".join(f"{scheme}://" for scheme in schemes)
    if not isinstance(value, str) or not value.isascii() or re.search(r"[\x00-\x20\x7f\\]", value):
        raise wrong(f"it must be an address that begins with {either}")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise wrong("its host or port can't be read") from None
    if parts.scheme not in schemes:
        raise wrong(f"it must be an address that begins with {either}")
    if "@" in value:
        raise wrong("an address carries no user and no password: they have keys of their own")
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc
    if not _HOST.fullmatch(host) or port == 0:
        raise wrong("its host or port can't be read")
    if "?" in value or "#" in value:
        raise wrong("an address carries no query and no fragment")
    return str(value)


def _broker(value: object) -> str:
    url = _address(value, ("mqtt", "mqtts"))
    if urlsplit(url).path not in ("", "/"):
        raise wrong("a broker's address has no path")
    return url


def _brokers(value: object) -> tuple[object, ...]:
    """A list of addresses; an empty one, or empty text, is no broker. From the environment: one, or JSON."""
    if isinstance(value, EnvText) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise wrong("it must be an address or a JSON list of addresses") from None
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list):
        raise wrong("it must be a list of addresses; [] is no broker")
    listed = [url for url in listed if url != ""]
    if len(listed) > 1:
        raise wrong("exactly one broker is accepted for now")
    return tuple(listed)


def place(url: str) -> str:
    """host:port of a gateway's address, for people and metrics."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or PORTS[parts.scheme]}"


def place_over_http(url: str) -> str:
    """That of an address over HTTP: with its path, since a gateway may have the same host and port."""
    return place(url) + urlsplit(url).path.rstrip("/")


def _over_http(value: object) -> str:
    return "" if value == "" else _address(value, ("http", "https"))


def _gateway(value: object) -> str:
    return _address(value, ("ws", "wss"))


def _gateways(value: object) -> tuple[object, ...]:
    if not isinstance(value, list) or not value:
        raise wrong("it must be a list of one or more gateways")
    return tuple(value)


def _one_each(gateways: tuple[str, ...]) -> tuple[str, ...]:
    """Each leads to a session of its own, and host:port is its name wherever it shows."""
    places = [place(url) for url in gateways]
    twice = [named for index, named in enumerate(places) if named in places[:index]]
    if twice:
        raise wrong(f"{twice[0]} is named twice: a second session there would fall with the first")
    return gateways


def _listen(value: object) -> str:
    if not isinstance(value, str):
        raise wrong("it must be host:port, such as 127.0.0.1:9464")
    host, _, port = value.rpartition(":")
    if not _HOST.fullmatch(host) or not re.fullmatch(r"0|[1-9][0-9]{0,4}", port) or int(port) > 65_535:
        raise wrong("it must be host:port, such as 127.0.0.1:9464")
    return str(value)


def _topic(value: object) -> str:
    if not isinstance(value, str) or not value or UNSAFE.search(value):
        raise wrong("it must be an MQTT topic: text without control characters, not empty")
    if len(value.encode()) > _TOPIC_BYTES_MAX:
        raise wrong("an MQTT topic has at most 65535 bytes")
    if "+" in value or "#" in value:
        raise wrong("it must hold no wildcard (+ or #)")
    if value.startswith("$share/"):
        raise wrong("a shared subscription would give some messages to others")
    return str(value)


def _button_topic(value: object) -> str:
    topic = _topic(value)
    if "{" in topic or "}" in topic:
        raise wrong("it must hold no {label}: what a button cancels is fixed")
    return topic


def _feed_topic(value: object) -> str:
    topic = _topic(value)
    for level in topic.split("/"):
        if ("{" in level or "}" in level) and not (
            level.startswith("{") and level.endswith("}") and is_label(level[1:-1])
        ):
            raise wrong("a {label} stands for one whole level of the topic")
    return topic


def labels_of(topic: str) -> tuple[str, ...]:
    """The labels that stand for levels of a feed's topic, in their order."""
    return tuple(level[1:-1] for level in topic.split("/") if level[:1] == "{" and level[-1:] == "}")


def _prefix(value: object) -> str:
    topic = _button_topic(value)
    if not all(topic.split("/")) or topic.startswith("$") or len(topic) > _PREFIX_MAX:
        raise wrong("it must be topic levels, none of them empty, not beginning with $, at most 100 characters")
    return topic


def _journal(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("sqlite:///"):
        raise wrong("it must be sqlite:/// and a path; other databases are not built yet")
    path = value.removeprefix("sqlite:///")
    if not path.strip("/") or path.endswith("/") or UNSAFE.search(path) or "?" in path:
        raise wrong("after sqlite:/// it needs the path of a file")
    if path.startswith(":memory:"):
        raise wrong("a journal in memory forgets what is latched")
    return str(value)


def _recording(value: object) -> str:
    """Empty, or a path that ends so that replay finds the file, and its older ones, in their folder."""
    if not isinstance(value, str) or UNSAFE.search(value) or (value and not value.endswith(RECORDING_ENDS)):
        raise wrong(f'it must be "" or the path of a file that ends in {RECORDING_ENDS}')
    if value and not value.rpartition("/")[2].removesuffix(RECORDING_ENDS):
        raise wrong("the file needs a name")
    return str(value)


Brokers = Annotated[tuple[Annotated[str, PlainValidator(_broker)], ...], BeforeValidator(_brokers)]
Gateways = Annotated[
    tuple[Annotated[str, PlainValidator(_gateway)], ...], BeforeValidator(_gateways), AfterValidator(_one_each)
]
HttpUrl = Annotated[str, PlainValidator(_over_http)]
StreamUrl = Annotated[str, PlainValidator(_gateway)]
Listen = Annotated[str, PlainValidator(_listen)]
ButtonTopic = Annotated[str, PlainValidator(_button_topic)]
FeedTopic = Annotated[str, PlainValidator(_feed_topic)]
Prefix = Annotated[str, PlainValidator(_prefix)]
Journal = Annotated[str, PlainValidator(_journal)]
Recording = Annotated[str, PlainValidator(_recording)]
