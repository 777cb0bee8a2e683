"""Which modules the program imports, and the C tables that put them into it. Used by spec/run.spec.

PyInstaller's analysis says where each module comes from, but also lists what is imported only in code that this program
never reaches: e-mail, archives, calendars. So the imports are tried, and what they load is what is taken. `re` is
replaced by a module with precompiled expressions.
"""

import _imp
import marshal
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import expressions

PACKAGE = "run"
KERNEL = "run._kernel"
"""The package's own extension module: main.c adds it, for built-in modules cannot be in a package."""

TRIAL = """
import sys
always = set(sys.modules)
sys.path[:0] = sys.argv[1].split(chr(10))
for name in sys.argv[2].split():
    __import__(name)
sys.modules["run.cli"].Options(["-qds", "TERM", "-t", "1", "--", "command"])
for name, module in sys.modules.items():
    file = getattr(module, "__file__", None) or ""
    when = "always" if name in always else "imported"
    print(name, when, file if file.endswith(".py") else "", sep=chr(9))
"""


def imported_names(graph: Any) -> list[str]:
    """The package's modules, and all that any import statement in them names, wherever it stands."""
    names = set()
    for node in graph.iter_graph():
        if node.identifier.split(".")[0] == PACKAGE:
            names.add(node.identifier)
            names.update(target.identifier for target in graph.outgoing(node) if target is not None)
    return sorted(name for name in names if "/" not in name)


def try_imports(names: list[str], path: list[str]) -> list[list[str]]:
    """Import these in a fresh interpreter, and parse a command line.

    Each module it has then: name, "always" or "imported", and its source file, or "" for one in C. Raises
    subprocess.CalledProcessError when an import fails.
    """
    command = [sys.executable, "-I", "-S", "-c", TRIAL, "\n".join(path), " ".join(names)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True).stdout
    return [line.split("\t") for line in output.splitlines() if not line.startswith("__main__\t")]


def c_name(name: str) -> str:
    """A module's name as part of a C identifier."""
    return name.replace("_", "__").replace(".", "_")


def frozen_source(modules: Iterable[tuple[str, Path, bool]]) -> str:
    """C source of the table run_frozen_modules for modules given by name, source file, and whether it is a package.

    Source: PyImport_FrozenModules in the Python/C API. Docstrings and assertions are left out.
    """
    arrays, rows = [], []
    for name, path, is_package in modules:
        code = compile(path.read_bytes(), f"{name}.py", "exec", dont_inherit=True, optimize=2)
        data = marshal.dumps(code)
        arrays.append(f"static const unsigned char code_{c_name(name)}[] = {{{','.join(map(str, data))}}};\n")
        fields = f'.name = "{name}", .code = code_{c_name(name)}, .size = {len(data)}, .is_package = {int(is_package)}'
        rows.append(f"    {{{fields}}},\n")
    return (
        "#include <Python.h>\n\n"
        + "".join(arrays)
        + "\nextern const struct _frozen run_frozen_modules[];\nconst struct _frozen run_frozen_modules[] = {\n"
        + "".join(rows)
        + "    {0},\n};\n"
    )


def inittab_source(names: list[str], config: str) -> str:
    """C source of the table of built-in modules: those of Python's own config.c that are needed.

    Source: PyImport_Inittab in the Python/C API. What is not named here the linker leaves out.
    """
    known = dict(re.findall(r'^\s*{"(\w+)", (\w+)},', config, re.MULTILINE))
    functions = {name: known[name] for name in names if name in known}
    missing = sorted(set(names) - set(functions))
    if missing:
        raise SystemExit(f"this Python has no built-in module {', '.join(missing)}: use LINK=staticx")
    declared = sorted({function for function in functions.values() if function != "NULL"})
    return (
        "#include <Python.h>\n\n"
        + "".join(f"extern PyObject *{function}(void);\n" for function in declared)
        + "\nstruct _inittab _PyImport_Inittab[] = {\n"
        + "".join(f'    {{"{name}", {function}}},\n' for name, function in sorted(functions.items()))
        + "    {0},\n};\n"
    )


def collect(graph: Any, target: Path) -> tuple[list[tuple[str, Path, bool]], dict[str, Path | None]]:
    """What goes into the program, from what PyInstaller's analysis found, and the module that replaces `re`.

    First the modules to be frozen, as frozen_source() takes them; then those written in C, each with the file of its
    extension module, or None where it is built into Python. The replacement is written into a folder below target.
    """
    replacements = target / "replacements"
    replacements.mkdir(parents=True, exist_ok=True)
    (replacements / "re.py").write_text(expressions.source())
    files = {node.identifier: node for node in graph.iter_graph() if getattr(node, "filename", None)}
    modules: list[tuple[str, Path, bool]] = []
    in_c: dict[str, Path | None] = {}
    for name, when, source in try_imports(imported_names(graph), [str(replacements), *sys.path]):
        if name == KERNEL or _imp.is_frozen(name):
            continue
        if not source:
            in_c[name] = Path(files[name].filename) if name in files else None
        elif when == "imported":
            modules.append((name, Path(source), Path(source).name == "__init__.py"))
    modules.sort()
    print(f"frozen: {' '.join(name for name, _, _ in modules)}; in C: {' '.join(sorted(in_c))}")
    return modules, in_c


def write(graph: Any, target: Path) -> None:
    """Write frozen.c and inittab.c for what PyInstaller's analysis found into the folder target."""
    modules, in_c = collect(graph, target)
    in_c["gc"] = None  # for gc.freeze(), which C code has no function for
    config = Path(sysconfig.get_config_var("LIBPL"), "config.c").read_text()
    (target / "frozen.c").write_text(frozen_source(modules))
    (target / "inittab.c").write_text(inittab_source(sorted(in_c), config))
