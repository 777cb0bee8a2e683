/* What the files of run._kernel share. */
#ifndef RUN_KERNEL_H
#define RUN_KERNEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_start.h"

/* A NULL-terminated array of the strings of a list of bytes, which it borrows, behind that many free places; to be freed
   with PyMem_Free. NULL with an exception set. */
char **string_array(PyObject *list, size_t places);

/* Before a disposition of `run` itself is changed, which _spawn.c remembers. */
void forget_dispositions(void);

extern const char kernel_spawn_doc[], kernel_signal_fd_doc[], kernel_make_pipe_doc[], kernel_capabilities_doc[],
    kernel_set_death_signal_doc[], kernel_unread_doc[], kernel_keep_freed_memory_doc[];

PyObject *kernel_spawn(PyObject *module, PyObject *args, PyObject *keywords);
PyObject *kernel_signal_fd(PyObject *module, PyObject *arg);
PyObject *kernel_make_pipe(PyObject *module, PyObject *args);
PyObject *kernel_capabilities(PyObject *module, PyObject *unused);
PyObject *kernel_set_death_signal(PyObject *module, PyObject *arg);
PyObject *kernel_unread(PyObject *module, PyObject *arg);
PyObject *kernel_keep_freed_memory(PyObject *module, PyObject *arg);

#endif
