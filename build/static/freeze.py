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
from types import CodeType
from typing import Any, NamedTuple

PACKAGE = "run"
KERNEL = "run._kernel"
"""The package's own extension module: main.c adds it, for built-in modules cannot be in a package."""

NEEDED_BY_PYTHON = ("encodings", "gc")
"""What C code imports: a decoding error looks for its handler among the codecs; main.c calls gc.freeze()."""

LATER_PHASE = ("_frozen_importlib_external", "zipimport")
"""What an interpreter imports in a phase of its start that main.c leaves out."""

TRIAL = """
import builtins
import sys
path, names, built_in_only = sys.argv[1:]
class BuiltIn:
    def find_spec(name, path=None, target=None):
        spec = sys.meta_path[-1].find_spec(name, path)
        if spec and (spec.origin or "").endswith(".so") and name != built_in_only:
            raise ModuleNotFoundError(f"this Python has no built-in module {name}", name=name)
if built_in_only:
    sys.meta_path.insert(0, BuiltIn)
def recording(function):
    def recorded(source, *more, **options):
        if isinstance(source, str):
            print("source", source, sep=chr(9))
        return function(source, *more, **options)
    return recorded
builtins.eval, builtins.compile = recording(eval), recording(compile)
sys.path[:0] = path.split(chr(10))
for name in names.split():
    try:
        __import__(name)
    except ImportError as error:
        sys.exit(f"build: {name} cannot be imported: {error}")
for name in "run.services.warmup", "run.warmup":
    sys.modules[name].warm_up()
for name, module in sys.modules.items():
    spec = getattr(module, "__spec__", None)
    if spec and spec.name == name:
        print("module", name, spec.origin, sep=chr(9))
"""

COMPILED = "compiled"
COMPILED_SOURCE = """
import builtins
import marshal
real = builtins.eval, builtins.compile
def code_of(source, *_):
    return marshal.loads(CODE[source])
def evaluate(source, *scopes):
    return real[0](code_of(source), *scopes)
def restore():
    builtins.eval, builtins.compile = real
builtins.eval, builtins.compile = evaluate, code_of
CODE = """
"""A module that mould.c imports first, as it has no compiler: the code of all expressions that the imports compile."""


def imported_names(graph: Any) -> list[str]:
    """The package's modules, and all that any import statement in them names, wherever it stands."""
    names = set()
    for node in graph.iter_graph():
        if node.identifier.split(".")[0] == PACKAGE:
            names.add(node.identifier)
            # What it does not find as a file, such as collections.abc of Python 3.13, it puts into quotes.
            names.update(target.identifier.strip("'") for target in graph.outgoing(node) if target is not None)
    return sorted(name for name in names if "/" not in name)


def try_imports(names: list[str], built_in_only: bool) -> tuple[dict[str, str], list[str]]:
    """Import these in a fresh interpreter, and do there what the build does once (the warm-ups of run).

    With built_in_only no extension module is there that is a file, but the package's own. The modules that it has then,
    with their files or what else they come from; and the expressions that were compiled. Raises SystemExit when an
    import fails.
    """
    arguments = ["\n".join(sys.path), " ".join(names), KERNEL if built_in_only else ""]
    command = [sys.executable, "-I", "-S", "-c", TRIAL, *arguments]
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if result.returncode:
        raise SystemExit(result.returncode)
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    return dict(line[1:] for line in lines if line[0] == "module"), [line[1] for line in lines if line[0] == "source"]


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
    return marshal.dumps(without_lines(compile(source, f"{name}.py", "exec", dont_inherit=True, optimize=2)))


def without_lines(code: CodeType) -> CodeType:
    """Leave the numbers of lines out, which are for tracebacks: no user sees one."""
    constants = tuple(without_lines(value) if isinstance(value, CodeType) else value for value in code.co_consts)
    return code.replace(co_consts=constants, co_linetable=b"")


class Found(NamedTuple):
    """What goes into the program."""

    modules: list[Module]
    """To be frozen."""
    in_c: dict[str, Path | None]
    """Modules written in C, each with the file of its extension module, or None where it is built into Python."""
    expressions: list[str]
    """What these compile when they are imported."""


def collect(graph: Any, built_in_only: bool) -> Found:
    """What goes into the program, from what PyInstaller's analysis found."""
    modules: list[Module] = []
    in_c: dict[str, Path | None] = {}
    files, compiled = try_imports([*imported_names(graph), *NEEDED_BY_PYTHON], built_in_only)
    for name, file in files.items():
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
    return Found(modules, in_c, compiled)


def source_of(name: str) -> Path:
    """The source file of a module of the standard library."""
    path = Path(sysconfig.get_path("stdlib"), *name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def c_name(name: str) -> str:
    """A module's name as part of a C identifier."""
    return name.replace("_", "__").replace(".", "_")


def frozen_source(modules: Iterable[Module]) -> str:
    """C source of the table run_frozen_modules.

    Source: PyImport_FrozenModules in the Python/C API.
    """
    arrays, rows = [], []
    codes = [(module.name, module.code, module.is_package) for module in modules if not module.in_python]
    for name, code, is_package in codes:
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


def table_for_the_mould(found: Found) -> bytes:
    """All modules, also those of Python's core, as mould.c reads them."""
    code = {source: marshal.dumps(without_lines(compile(source, "", "eval"))) for source in found.expressions}
    rows = [(COMPILED, False, frozen(COMPILED, f"{COMPILED_SOURCE}{code}".encode()))]
    rows += [(module.name, module.is_package, module.code) for module in found.modules]
    return b"".join(name.encode() + b"\0" + struct.pack("<?i", *of, len(code)) + code for name, *of, code in rows)


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
    found = collect(graph, built_in_only=True)
    config = Path(sysconfig.get_config_var("LIBPL"), "config.c").read_text()
    (target / "frozen.c").write_text(frozen_source(found.modules))
    (target / "modules").write_bytes(table_for_the_mould(found))
    (target / "inittab.c").write_text(inittab_source(sorted(found.in_c), config))
