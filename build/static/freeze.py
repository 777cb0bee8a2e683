"""Which modules the program imports, and the C tables that put them into it. Used by spec/run.spec.

PyInstaller's analysis finds every import statement of the package, wherever it stands; but what those modules import
in turn it lists also where that is in code that this program never reaches: e-mail, archives, calendars. So the
imports are tried, and what they load is what is taken. The interpreter of the program finds nothing on disk (main.c):
what is missing here is an ImportError there.
"""

import _imp
import marshal
import re
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import expressions

PACKAGE = "run"
KERNEL = "run._kernel"
"""The package's own extension module: main.c adds it, for built-in modules cannot be in a package."""

NEEDED_BY_PYTHON = ("encodings", "gc")
"""What C code imports: a decoding error looks for its handler among the codecs; main.c calls gc.freeze()."""

LATER_PHASE = ("_frozen_importlib_external", "zipimport")
"""What an interpreter imports in a phase of its start that main.c leaves out."""

TRIAL = """
import sys
path, names, built_in_only = sys.argv[1:]
class BuiltIn:
    def find_spec(name, path=None, target=None):
        spec = sys.meta_path[-1].find_spec(name, path)
        if spec and (spec.origin or "").endswith(".so") and name != built_in_only:
            raise ModuleNotFoundError(f"this Python has no built-in module {name}", name=name)
if built_in_only:
    sys.meta_path.insert(0, BuiltIn)
sys.path[:0] = path.split(chr(10))
for name in names.split():
    try:
        __import__(name)
    except ImportError as error:
        sys.exit(f"build: {name} cannot be imported: {error}")
sys.modules["run.warmup"].warm_up()
for name, module in sys.modules.items():
    spec = getattr(module, "__spec__", None)
    if spec and spec.name == name:
        print(name, spec.origin, sep=chr(9))
"""


def imported_names(graph: Any) -> list[str]:
    """The package's modules, and all that any import statement in them names, wherever it stands."""
    names = set()
    for node in graph.iter_graph():
        if node.identifier.split(".")[0] == PACKAGE:
            names.add(node.identifier)
            names.update(target.identifier for target in graph.outgoing(node) if target is not None)
    return sorted(name for name in names if "/" not in name)


def try_imports(names: list[str], built_in_only: bool) -> list[list[str]]:
    """Import these in a fresh interpreter, and do there what the build does once (run.warmup).

    With built_in_only no extension module is there that is a file, but the package's own. Each module that it has then:
    name, and file or what else it comes from. Raises SystemExit when an import fails.
    """
    arguments = ["\n".join(sys.path), " ".join(names), KERNEL if built_in_only else ""]
    command = [sys.executable, "-I", "-S", "-c", TRIAL, *arguments]
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if result.returncode:
        raise SystemExit(result.returncode)
    return [line.split("\t") for line in result.stdout.splitlines()]


class Module(NamedTuple):
    """A module to be frozen."""

    name: str
    file: Path
    in_python: bool
    """Whether Python's core has it already."""

    @property
    def is_package(self) -> bool:
        """Whether it has modules in it."""
        return self.file.name == "__init__.py"

    @property
    def code(self) -> bytes:
        """Its code, without docstrings and assertions."""
        return frozen(self.name, self.file.read_bytes())


def frozen(name: str, source: bytes) -> bytes:
    """A module's code, as marshal has it."""
    return marshal.dumps(compile(source, f"{name}.py", "exec", dont_inherit=True, optimize=2))


def collect(graph: Any, built_in_only: bool) -> tuple[list[Module], dict[str, Path | None]]:
    """What goes into the program, from what PyInstaller's analysis found.

    First the modules to be frozen; then those written in C, each with the file of its extension module, or None where
    it is built into Python.
    """
    modules: list[Module] = []
    in_c: dict[str, Path | None] = {}
    for name, file in try_imports([*imported_names(graph), *NEEDED_BY_PYTHON], built_in_only):
        if name == KERNEL or name in LATER_PHASE:
            continue
        if _imp.is_frozen(name):
            found = _imp.find_frozen(name)
            assert found and found[2]
            modules.append(Module(name, source_of(found[2]), True))
        elif file.endswith(".py"):
            modules.append(Module(name, Path(file), False))
        else:
            in_c[name] = None if file == "built-in" else Path(file)
    modules.sort()
    print(f"frozen: {' '.join(module.name for module in modules)}; in C: {' '.join(sorted(in_c))}")
    return modules, in_c


def source_of(name: str) -> Path:
    """The source file of a module of the standard library."""
    path = Path(sysconfig.get_path("stdlib"), *name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def c_name(name: str) -> str:
    """A module's name as part of a C identifier."""
    return name.replace("_", "__").replace(".", "_")


def frozen_source(modules: Iterable[Module]) -> str:
    """C source of the table run_frozen_modules: modules, and the stand-in for `re` that docopt gets (expressions.py).

    Source: PyImport_FrozenModules in the Python/C API.
    """
    arrays, rows = [], []
    codes = [(module.name, module.code, module.is_package) for module in modules if not module.in_python]
    for name, code, is_package in [*codes, (expressions.NAME, frozen("re", expressions.source().encode()), False)]:
        arrays.append(f"static const unsigned char code_{c_name(name)}[] = {{{','.join(map(str, code))}}};\n")
        fields = f'.name = "{name}", .code = code_{c_name(name)}, .size = {len(code)}, .is_package = {int(is_package)}'
        rows.append(f"    {{{fields}}},\n")
    return (
        "#include <Python.h>\n\n"
        + "".join(arrays)
        + "\nextern const struct _frozen run_frozen_modules[];\nconst struct _frozen run_frozen_modules[] = {\n"
        + "".join(rows)
        + "    {0},\n};\n"
    )


def table_for_the_mould(modules: Iterable[Module]) -> bytes:
    """All modules, also those of Python's core, as mould.c reads them."""
    return b"".join(
        module.name.encode() + b"\0" + struct.pack("<?i", module.is_package, len(module.code)) + module.code
        for module in modules
    )


def inittab_source(names: list[str], config: str) -> str:
    """C source of the table of built-in modules: those of Python's own config.c that are needed.

    Source: PyImport_Inittab in the Python/C API. What is not named here the linker leaves out.
    """
    known = dict(re.findall(r'^\s*{"(\w+)", (\w+)},', config, re.MULTILINE))
    functions = {name: known[name] for name in names}
    declared = sorted({function for function in functions.values() if function != "NULL"})
    return (
        "#include <Python.h>\n\n"
        + "".join(f"extern PyObject *{function}(void);\n" for function in declared)
        + "\nstruct _inittab _PyImport_Inittab[] = {\n"
        + "".join(f'    {{"{name}", {function}}},\n' for name, function in sorted(functions.items()))
        + "    {0},\n};\n"
    )


def write(graph: Any, target: Path) -> None:
    """Write frozen.c, modules and inittab.c for what PyInstaller's analysis found into the folder target."""
    target.mkdir(parents=True, exist_ok=True)
    modules, in_c = collect(graph, built_in_only=True)
    config = Path(sysconfig.get_config_var("LIBPL"), "config.c").read_text()
    (target / "frozen.c").write_text(frozen_source(modules))
    (target / "modules").write_bytes(table_for_the_mould(modules))
    (target / "inittab.c").write_text(inittab_source(sorted(in_c), config))
