"""The configured MQTT broker, as the adapters want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.adapters.mqtt_session import Broker

if TYPE_CHECKING:
    from killswitch.config import Config


def broker_of(config: Config) -> Broker | None:
    """The broker as the adapters want it, or None where none is configured."""
    if not config.mqtt.brokers:
        return None
    mqtt, broker = config.mqtt, config.mqtt.brokers[0]
    return Broker(
        host=broker.host,
        port=broker.port,
        tls=broker.tls,
        ca_file=str(mqtt.ca_file) if mqtt.ca_file else None,
        cert_file=str(mqtt.cert_file) if mqtt.cert_file else None,
        key_file=str(mqtt.key_file) if mqtt.key_file else None,
        username=mqtt.username or None,
        password=str(mqtt.password) if mqtt.password is not None else None,
    )
