"""TLS of the MQTT link: 1.2 or later, the broker's name checked, our certificate shown."""

from __future__ import annotations

import ssl

from protocol.mqtt_settings import MqttSettings
from protocol.mqtt_socket import PacketSocket


class TlsFilesError(Exception):
    """CA, certificate or key cannot be used. The text names the files, never their content."""


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, broker name checked, our certificate shown. Raises TlsFilesError."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(settings.ca))
        context.sslsocket_class = PacketSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # An encrypted key fails here instead of asking for its password on the terminal.
        context.load_cert_chain(str(settings.certificate), str(settings.key), password="")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise TlsFilesError(f"{settings.ca}, {settings.certificate}, {settings.key}: {why}") from error
    return context
