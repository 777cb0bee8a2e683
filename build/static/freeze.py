"""Which modules the program imports, and the C tables that put them into it. Used by spec/run.spec.

PyInstaller's analysis finds every import statement of the package, wherever it stands; but what those modules import
in turn it lists also where that is in code that this program never reaches: e-mail, archives, calendars. So the
imports are tried, and what they load is what is taken. The interpreter of the program finds nothing on disk (main.c):
what is missing here is an ImportError there.
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

NEEDED_BY_PYTHON = ("encodings", "gc")
"""What C code imports: a decoding error looks for its handler among the codecs; main.c calls gc.freeze()."""

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


def c_name(name: str) -> str:
    """A module's name as part of a C identifier."""
    return name.replace("_", "__").replace(".", "_")


def frozen_source(modules: Iterable[tuple[str, Path, bool]]) -> str:
    """C source of the table run_frozen_modules for modules given by name, source file, and whether it is a package.

    Source: PyImport_FrozenModules in the Python/C API. Docstrings and assertions are left out. Besides, where there is
    no snapshot: the stand-in for `re` that docopt gets (expressions.py).
    """
    parts = [frozen_module(name, path.read_bytes(), is_package) for name, path, is_package in modules]
    array, row = frozen_module(expressions.NAME, expressions.source().encode(), False)
    parts.append((f"#ifndef RUN_SNAPSHOT\n{array}#endif\n", f"#ifndef RUN_SNAPSHOT\n{row}#endif\n"))
    arrays, rows = zip(*parts, strict=True)
    return (
        "#include <Python.h>\n\n"
        + "".join(arrays)
        + "\nextern const struct _frozen run_frozen_modules[];\nconst struct _frozen run_frozen_modules[] = {\n"
        + "".join(rows)
        + "    {0},\n};\n"
    )


def frozen_module(name: str, source: bytes, is_package: bool) -> tuple[str, str]:
    """C source of one module: an array, and a row of the table."""
    data = marshal.dumps(compile(source, f"{name}.py", "exec", dont_inherit=True, optimize=2))
    array = f"static const unsigned char code_{c_name(name)}[] = {{{','.join(map(str, data))}}};\n"
    fields = f'.name = "{name}", .code = code_{c_name(name)}, .size = {len(data)}, .is_package = {int(is_package)}'
    return array, f"    {{{fields}}},\n"


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


def collect(graph: Any, built_in_only: bool) -> tuple[list[tuple[str, Path, bool]], dict[str, Path | None]]:
    """What goes into the program, from what PyInstaller's analysis found.

    First the modules to be frozen, as frozen_source() takes them; then those written in C, each with the file of its
    extension module, or None where it is built into Python.
    """
    modules: list[tuple[str, Path, bool]] = []
    in_c: dict[str, Path | None] = {}
    for name, file in try_imports([*imported_names(graph), *NEEDED_BY_PYTHON], built_in_only):
        if name == KERNEL or _imp.is_frozen(name):
            continue
        if file.endswith(".py"):
            modules.append((name, Path(file), Path(file).name == "__init__.py"))
        else:
            in_c[name] = None if file == "built-in" else Path(file)
    modules.sort()
    print(f"frozen: {' '.join(name for name, _, _ in modules)}; in C: {' '.join(sorted(in_c))}")
    return modules, in_c


def write(graph: Any, target: Path) -> None:
    """Write frozen.c and inittab.c for what PyInstaller's analysis found into the folder target."""
    target.mkdir(parents=True, exist_ok=True)
    modules, in_c = collect(graph, built_in_only=True)
    config = Path(sysconfig.get_config_var("LIBPL"), "config.c").read_text()
    (target / "frozen.c").write_text(frozen_source(modules))
    (target / "inittab.c").write_text(inittab_source(sorted(in_c), config))
