"""What is wrong with a TLS listener: librdkafka says of every certificate only that it was not verified.

Asked only after a refusal, for the words of the error; nothing is sent over the connection it makes.
"""

import socket
import ssl

TIMEOUT_S = 2.0


def certificate_fault(address: str, authorities: str | None) -> str | None:
    """What does not convince in the certificate of `host:port`; None when it does, or nobody shows one."""
    try:
        _handshake(address, authorities)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message.rstrip(".")
    except (OSError, ValueError):
        return None
    return None


def speaks_tls(address: str) -> bool:
    """Whether `host:port` shows a certificate, be it good or bad."""
    try:
        _handshake(address, None)
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _handshake(address: str, authorities: str | None) -> None:
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=authorities)
    with (
        socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host.strip("[]")),
    ):
        pass
