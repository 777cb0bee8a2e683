/* Memory for the first small objects of a process (see nursery.c). */
#ifndef RUN_NURSERY_H
#define RUN_NURSERY_H

#include <Python.h>

#include <stdbool.h>

/* From now on the first small objects come from the nursery. */
void nursery_open(void);

#endif
