"""Where the linker has put what, as readelf(1) and the linker's map tell. Used by prove.py."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Section:
    """A section of an ELF file."""

    name: str
    addresses: range
    offset: int
    flags: str


@dataclass(frozen=True)
class Layout:
    """Of a linked program: its sections, what is read-only once it has started, and the slots that start code fills."""

    sections: list[Section]
    constant: range
    slots: list[int]

    def section(self, name: str) -> Section:
        """The section of this name; raises KeyError."""
        for section in self.sections:
            if section.name == name:
                return section
        raise KeyError(name)

    def variable(self) -> list[Section]:
        """The sections that are variable in each process: .data and .bss, but not .data.rel.ro."""
        writable = [section for section in self.sections if "W" in section.flags and section.addresses]
        return [s for s in writable if "T" in s.flags or not self._is_constant(s)]

    def _is_constant(self, section: Section) -> bool:
        return section.addresses[0] in self.constant and section.addresses[-1] in self.constant


@dataclass(frozen=True)
class Piece:
    """What an object file adds to an output section, as a link map says."""

    output: str
    input: str
    addresses: range
    object: str


def layout_of(program: Path) -> Layout:
    """Read the layout of a program, with readelf(1)."""
    command = ["readelf", "-W", "-S", "-l", "-r", str(program)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    sections, constant, slots = [], range(0), []
    for line in result.stdout.splitlines():
        if found := re.match(r" *\[ *\d+\] (\S+) +[A-Z_]+ +(\w{16}) (\w+) (\w+) \w+ +([A-Za-z]*) ", line):
            name, (address, offset, size) = found[1], (int(word, 16) for word in found.group(2, 3, 4))
            sections.append(Section(name, range(address, address + size), offset, found[5]))
        elif found := re.match(r" +GNU_RELRO +0x\w+ 0x(\w+) 0x\w+ 0x\w+ 0x(\w+) ", line):
            constant = range(int(found[1], 16), int(found[1], 16) + int(found[2], 16))
        elif found := re.match(r"(\w{16}) +\w{16} R_\w+_IRELATIV", line):
            slots.append(int(found[1], 16))
    return Layout(sections, constant, slots)


def read_map(text: str) -> tuple[list[Piece], dict[str, int]]:
    """The pieces of a link map as GNU ld writes it, and its symbols. A long name stands on a line of its own."""
    pieces, symbols, output, name = [], {}, "", ""
    for line in text[text.index("\nLinker script and memory map\n") :].splitlines():
        if found := re.match(r"(\S+)( +0x\w+ +0x\w+.*)?$", line):
            output = found[1]
        elif found := re.match(r" (\S+)$", line):
            name = found[1]
        elif found := re.match(r" (\S*) +0x(\w+) +0x(\w+) (\S.*)$", line):
            start, size = int(found[2], 16), int(found[3], 16)
            if size and start:
                pieces.append(Piece(output, found[1] or name, range(start, start + size), found[4]))
        elif found := re.match(r" {16}0x(\w+) +(\w+)( = .*)?$", line):
            symbols[found[2]] = int(found[1], 16)
    return pieces, symbols
