/*
 * In the place of CPython's parser and compiler, where there is a snapshot: half a megabyte that has no place in the file, for
 * all code is compiled already, and none is ever made from text while the program runs. What the standard library compiles
 * when it is imported freeze.py has compiled before. What refers to them finds these.
 *
 * Each has a name of CPython's, and is called with arguments that it does not look at.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define REFUSED(function)                                                         \
    void *function(void);                                                         \
    void *function(void)                                                          \
    {                                                                             \
        PyErr_SetString(PyExc_RuntimeError, "this program compiles no source text"); \
        return NULL;                                                              \
    }

#define NOTHING(function) \
    int function(void);   \
    int function(void)    \
    {                     \
        return 0;         \
    }

REFUSED(_PyPegen_run_parser_from_string)
REFUSED(_PyPegen_run_parser_from_file_pointer)
REFUSED(PyAST_mod2obj)
REFUSED(PyAST_obj2mod)
REFUSED(_PyAST_GetDocString)
REFUSED(_PyAST_Optimize)
REFUSED(_PySymtable_Build)
REFUSED(PySymtable_Lookup)
REFUSED(_PyST_GetSymbol)
REFUSED(_PyFuture_FromAST)
REFUSED(_PyAST_ExprAsUnicode)
REFUSED(_PyTokenizer_FindEncodingFilename)
NOTHING(PyAST_Check)
NOTHING(_PyAST_Validate)
NOTHING(_PyAST_Fini)
NOTHING(_PyST_GetScope)
NOTHING(_PySymtable_Free)
NOTHING(_PyPegen_byte_offset_to_character_offset)

/* The type of a table of symbols, which is made ready with all others. */
PyTypeObject PySTEntry_Type = {
    PyVarObject_HEAD_INIT(&PyType_Type, 0)
    .tp_name = "symtable entry",
    .tp_basicsize = sizeof(PyObject),
};
