"""The C tables of modules for a program that uses a shared libpython. Used by spec/run.spec, for LINK=staticx."""

from pathlib import Path
from typing import Any

from freeze import collect, frozen_source


def extensions_source(names: list[str]) -> str:
    """C source of the table run_extension_modules, of what takeover.c makes built-in modules.

    Source: PyImport_ExtendInittab in the Python/C API. An extension module is a shared library like any other then, and
    loaded before the program starts: no file is looked for by an import.
    """
    return (
        "#include <Python.h>\n\n"
        + "".join(f"extern PyObject *PyInit_{name}(void);\n" for name in names)
        + "\nextern const struct _inittab run_extension_modules[];\n"
        + "const struct _inittab run_extension_modules[] = {\n"
        + "".join(f'    {{"{name}", PyInit_{name}}},\n' for name in names)
        + "    {0},\n};\n"
    )


def write(graph: Any, target: Path) -> None:
    """Write frozen.c, extensions.c and the list of extension modules' files for what PyInstaller's analysis found."""
    target.mkdir(parents=True, exist_ok=True)
    found = collect(graph, built_in_only=False)
    files = {name: path for name, path in sorted(found.in_c.items()) if path}
    (target / "frozen.c").write_text(frozen_source(found.modules))
    (target / "extensions.c").write_text(extensions_source(list(files)))
    (target / "extensions").write_text("".join(f"{path.name}\n" for path in files.values()))
