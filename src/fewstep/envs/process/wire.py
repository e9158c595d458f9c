"""What goes between a run and its environment processes: a JSON object and raw numbers, nothing that is code.

A frame is two 32-bit lengths, the JSON text and the bytes of float32 numbers. A socket needs no name, leaves
nothing behind however a process dies, and says at once when the other end has gone.
"""

import json
import socket
import struct
import time
from typing import Any

_LENGTHS = struct.Struct("<II")
LARGEST = 2**26
"""Bytes of one frame's text or numbers; a length beyond it is none of ours."""


class Gone(Exception):
    """The other end has closed or sent what is no frame."""


class Late(Exception):
    """The other end did not answer in time."""


def send(end: socket.socket, head: dict[str, Any], body: bytes = b"") -> None:
    """Send one frame.

    Raises:
        Gone: nobody is there to read it.
    """
    text = json.dumps(head).encode()
    try:
        end.settimeout(None)
        end.sendall(_LENGTHS.pack(len(text), len(body)) + text + body)
    except OSError as error:
        raise Gone(str(error)) from error


def receive(end: socket.socket, seconds: float | None = None) -> tuple[dict[str, Any], bytes]:
    """Wait for one frame.

    Raises:
        Late: it was not there after ``seconds``.
        Gone: the other end has closed, or what came is no frame.
    """
    end.settimeout(None)
    deadline = None if seconds is None else time.monotonic() + seconds
    text, body = _LENGTHS.unpack(_exactly(end, _LENGTHS.size, deadline))
    if max(text, body) > LARGEST:
        raise Gone("a frame of impossible length")
    try:
        return json.loads(_exactly(end, text, deadline)), _exactly(end, body, deadline)
    except ValueError as error:
        raise Gone(str(error)) from error


def _exactly(end: socket.socket, count: int, deadline: float | None) -> bytes:
    read = bytearray()
    while len(read) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late
            end.settimeout(left)
        try:
            piece = end.recv(count - len(read))
        except TimeoutError:
            raise Late from None
        except OSError as error:
            raise Gone(str(error)) from error
        if not piece:
            raise Gone("end of stream")
        read += piece
    return bytes(read)
