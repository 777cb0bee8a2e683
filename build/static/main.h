/* What main.c offers to the rest of the program. */
#ifndef RUN_MAIN_H
#define RUN_MAIN_H

#include <Python.h>

/* Say what went wrong, and end the process. */
_Noreturn void fail(const char *what);

/* The message of the exception that is set. */
const char *exception_text(void);

/* An interpreter that finds nothing on disk, with the extension module, and no garbage collection. 0, or -1 with an exception
   set. */
int make_interpreter(void);

/* Import the program: main() in Python, and keep that. 0, or -1 with an exception set. */
int import_program(void);

/* Give the words of the command line to the interpreter. 0, or -1 with an exception set. */
int set_arguments(int argc, char **argv);

#endif
