/*
 * The registry of codecs and of handlers of errors: what looks for "strict" where bytes are no UTF-8, for one, and what the module
 * codecs asks. From Python 3.13 on it is made in a phase of the start that main.c leaves out, by a function that the shared
 * library does not export. So this one does the same with what is public, but for the places themselves.
 *
 * Source: Python/codecs.c of CPython, _PyCodec_InitRegistry(). main.c calls it by that name.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if PY_VERSION_HEX >= 0x030D0000

#define Py_BUILD_CORE 1
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "internal/pycore_interp.h"

PyStatus _PyCodec_InitRegistry(PyInterpreterState *interpreter);

/* As a method, which Python calls with itself first. */
#define HANDLER(function)                                                 \
    static PyObject *python_##function(PyObject *self, PyObject *error)   \
    {                                                                     \
        (void)self;                                                       \
        return PyCodec_##function(error);                                 \
    }

HANDLER(StrictErrors)
HANDLER(IgnoreErrors)
HANDLER(ReplaceErrors)
HANDLER(XMLCharRefReplaceErrors)
HANDLER(BackslashReplaceErrors)
HANDLER(NameReplaceErrors)

/* What codecs.py asks for; and what is left of surrogateescape, as the codec UTF-8 does itself all that it can turn into bytes. */
static PyMethodDef handlers[] = {
    {"strict", python_StrictErrors, METH_O, NULL},
    {"surrogateescape", python_StrictErrors, METH_O, NULL},
    {"ignore", python_IgnoreErrors, METH_O, NULL},
    {"replace", python_ReplaceErrors, METH_O, NULL},
    {"xmlcharrefreplace", python_XMLCharRefReplaceErrors, METH_O, NULL},
    {"backslashreplace", python_BackslashReplaceErrors, METH_O, NULL},
    {"namereplace", python_NameReplaceErrors, METH_O, NULL},
};

PyStatus _PyCodec_InitRegistry(PyInterpreterState *interpreter)
{
    interpreter->codecs.search_path = PyList_New(0);
    interpreter->codecs.search_cache = PyDict_New();
    interpreter->codecs.error_registry = PyDict_New();
    if (!interpreter->codecs.search_path || !interpreter->codecs.search_cache || !interpreter->codecs.error_registry)
        return PyStatus_NoMemory();
    interpreter->codecs.initialized = 1;
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        PyObject *handler = PyCFunction_New(&handlers[i], NULL);

        if (!handler || PyCodec_RegisterError(handlers[i].ml_name, handler) < 0)
            return PyStatus_NoMemory();
        Py_DECREF(handler);
    }
    return PyStatus_Ok();
}

#endif
