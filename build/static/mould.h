/* The mould: the program before it has a snapshot, which it makes (see mould.c). */
#ifndef RUN_MOULD_H
#define RUN_MOULD_H

/* Do what the words say, and end the process. */
_Noreturn void be_the_mould(int argc, char **argv);

#endif
