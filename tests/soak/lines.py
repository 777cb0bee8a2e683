"""The lines that services of the soak write, as `run` passes them on: each exactly once, in order, and whole."""

import re

LETTERS = 26
FILLING = bytes(range(ord("a"), ord("z") + 1)) * 3000
LONGEST_NAMED = 16 * 1024
"""Bytes after which a line goes on in another one: contract, "Output"."""

PASSED_ON = re.compile(rb"n(\d\d) ([|+]) (.*)\n", re.DOTALL)
PLAIN = re.compile(rb"(\d\d) [oe] .*\n", re.DOTALL)
STREAMS = b"oe"


def mixed(z: int) -> int:
    """splitmix32, as in service.c."""
    z ^= z >> 16
    z = z * 0x21F0AAAD & 0xFFFFFFFF
    z ^= z >> 15
    z = z * 0x735A2D97 & 0xFFFFFFFF
    return z ^ z >> 15


def length(service: int, stream: int, line: int) -> int:
    """How long a line is, without its newline: the same as in service.c."""
    hashed = mixed(line * 4 + stream * 2 + service * 7919 & 0xFFFFFFFF)
    rest = hashed >> 8
    if hashed % 64 == 0:
        return 16000 + rest % 24000
    return 1000 + rest % 5000 if hashed % 16 == 1 else 50 + rest % 130


class Stream:
    """What one service has written to stdout, or to stderr, so far."""

    def __init__(self, service: int, stream: int) -> None:
        """Nothing was read yet."""
        self._service = service
        self._stream = stream
        self.number = 0
        """Of the last line."""
        self.length = 0
        """How much of that there was: a service that is stopped may end in the middle of one."""
        self._expected = b""
        self._part = 0
        self._is_over = True

    def begin(self, text: bytes, longest: int) -> bool:
        """Take a line; say whether it is the one that has to come next, or its beginning."""
        line = self.number + 1
        head = b"%02d %c %d %d " % (self._service, STREAMS[self._stream], line, self.length)
        begin = line % LETTERS + len(head)
        size = length(self._service, self._stream, line) - len(head)
        self._expected = head + FILLING[begin % LETTERS : begin % LETTERS + size]
        self.number, self.length = line, 0
        return self._take(text, longest)

    def go_on(self, text: bytes, longest: int) -> bool:
        """Take the continuation of a line; say whether it is one."""
        return not self._is_over and self._part == longest and self._take(text, longest)

    def _take(self, text: bytes, longest: int) -> bool:
        is_it = self._expected.startswith(text, self.length) and 0 < len(text) <= longest
        self._part = len(text)
        self.length += len(text)
        self._is_over = self.length >= len(self._expected)
        return is_it


class Lines:
    """All lines of all services, from one of the two outputs of `run`; what is none of them is the log's."""

    def __init__(self, stream: int, count: int) -> None:
        """Take which of the two outputs, and how many services there are."""
        self.streams = [Stream(service, stream) for service in range(count)]
        self.count = 0
        self.strange: list[bytes] = []
        self._rest: list[bytes] = []

    def add(self, data: bytes) -> list[bytes]:
        """Take what was read; return the lines that no service has written."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += [data] if data else []
            return []
        lines = b"".join([*self._rest, data[:end]]).splitlines(keepends=True)
        self._rest = [data[end:]] if data[end:] else []
        return [line for line in lines if not self._is_of_service(line)]

    @property
    def is_whole(self) -> bool:
        """Whether what was read so far ends with a newline."""
        return not self._rest

    def _is_of_service(self, line: bytes) -> bool:
        """Take note of a line, unless no service has written it."""
        if match := PASSED_ON.fullmatch(line):
            stream = self.streams[int(match[1])]
            take = stream.begin if match[2] == b"|" else stream.go_on
            is_right = take(match[3], LONGEST_NAMED)
        elif match := PLAIN.fullmatch(line):
            is_right = self.streams[int(match[1])].begin(line[:-1], len(line))
        else:
            return False
        self.count += 1
        if not is_right:
            self.strange.append(line)
        return True
