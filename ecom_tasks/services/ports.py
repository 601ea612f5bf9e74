"""Find loopback ports that nobody listens on."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from ecom_tasks.errors import RetryableError

_PORT_TRIES = 200


def free_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """For each name the wanted loopback port, or the next above it that nobody listens on.

    Raises
    ------
    RetryableError
        A long stretch of ports is taken.
    """
    found: dict[str, int] = {}
    for name, first in wanted.items():
        candidates = (first + step for step in range(_PORT_TRIES) if first + step <= 65535)
        for port in candidates:
            if port not in found.values() and _is_free(port):
                found[name] = port
                break
        else:
            raise RetryableError(
                f"Ports {first} to {first + _PORT_TRIES} of 127.0.0.1 are all in use",
                "Stop what listens there, or wait for its sockets to close",
            )
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a socket of an ended server that lingers does not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
